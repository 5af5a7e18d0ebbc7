import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import type { RevocationEvent } from "../../src/protocol/revocation-event.ts";
import { addAccount, eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { readSnapshot } from "../support/revocation-stream.ts";
import { logIn, logOut, revokeIds, revokeToken } from "../support/revocations.ts";

let database: TestDatabase;
let instance: TestInstance;

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  instance = await startInstance({ databaseUrl: database.url });
});
afterAll(async () => {
  await instance?.stop("SIGKILL");
  await database.drop();
});

const read = async (query = "") => (await readSnapshot(instance.url, query)).snapshot;
const idsOf = (events: readonly RevocationEvent[]) => events.map(({ id }) => id);

async function untilRead(id: string): Promise<void> {
  await eventually(async () => idsOf((await read()).events).includes(id));
}

/** Revokes so many made-up ids and waits until the instance has read them. */
async function revokeAndRead(count: number): Promise<readonly string[]> {
  const ids = await revokeIds(database.pool, count);
  await untilRead(ids.at(-1) ?? "");
  return ids;
}

async function databaseSeconds(): Promise<number> {
  const { rows } = await database.pool.query<{ now: number }>(
    "select extract(epoch from clock_timestamp())::float8 as now",
  );
  return rows[0]?.now ?? 0;
}

test("the snapshot holds the unexpired in order, each until when, where it ends, and up to when it was read", async () => {
  const before = await databaseSeconds();
  const ids = await revokeAndRead(3);
  const { snapshot, headers, status } = await readSnapshot(instance.url);
  expect(status).toBe(200);
  expect(headers.get("content-type")).toMatch(/^application\/json\b/);
  expect(headers.get("cache-control")).toBe("no-cache");
  expect(Object.keys(snapshot).sort()).toEqual(["as_of", "cursor", "events"]);
  expect(snapshot.cursor).toMatch(/^[0-9a-f]{32}:\d+$/);
  const events = snapshot.events.filter(({ id }) => ids.includes(id));
  expect(idsOf(events)).toEqual(ids);
  for (const event of events) {
    const { revoked_at: revokedAt } = event;
    expect(event).toEqual({
      type: "session",
      id: event.id,
      revoked_at: revokedAt,
      expires_at: revokedAt + 62 * 60,
    });
    expect(revokedAt).toBeGreaterThanOrEqual(Math.floor(before));
  }
  expect(snapshot.as_of).toBeGreaterThanOrEqual(Math.floor(before));
  expect(snapshot.as_of).toBeLessThanOrEqual(await databaseSeconds());
});

test("what has expired is left out, although its row is still there", async () => {
  const [id = ""] = await revokeIds(database.pool, 1, "3 seconds");
  await untilRead(id);
  await eventually(async () => !idsOf((await read()).events).includes(id));
  const { rows } = await database.pool.query("select from keyfleet.revocations where id = $1", [id]);
  expect(rows).toHaveLength(1);
});

test("a revoked token is told by its jti, a session by its id, a key by its kid", async () => {
  const token = await logIn(instance.url);
  const { cursor } = await read();
  await revokeToken(instance.url, token.access_token);
  await logOut(instance.url, token.refresh_token);
  const { rows } = await database.pool.query<{ kids: string[] }>(
    "select keyfleet.revoke_instance_keys($1, false, 'test', null) as kids",
    [instance.instanceId],
  );
  const kids = rows[0]?.kids ?? [];
  expect(kids.length).toBeGreaterThan(0);
  await untilRead(kids.at(-1) ?? "");
  const { events } = await read(`?after=${cursor}`);
  expect(events.map(({ type, id }) => ({ type, id }))).toEqual([
    { type: "token", id: decodeJwt(token.access_token).jti },
    { type: "session", id: token.session_id },
    ...kids.map((id) => ({ type: "key", id })),
  ]);
});

describe("after a cursor", () => {
  test("there are only the later ones", async () => {
    await revokeAndRead(2);
    const { cursor } = await read();
    expect(await read(`?after=${cursor}`)).toMatchObject({ cursor, events: [] });
    const ids = await revokeAndRead(2);
    const later = await read(`?after=${cursor}`);
    expect(idsOf(later.events)).toEqual(ids);
    expect(later.cursor).toBe((await read()).cursor);
  });

  test("that is ahead of this instance, nothing comes twice and the cursor does not go back", async () => {
    await revokeAndRead(1);
    const [epoch, number] = (await read()).cursor.split(":");
    const ahead = `${epoch}:${Number(number) + 2}`;
    expect(await read(`?after=${ahead}`)).toMatchObject({ cursor: ahead, events: [] });
    const ids = await revokeAndRead(3);
    expect(idsOf((await read(`?after=${ahead}`)).events)).toEqual(ids.slice(2));
  });

  test("of another epoch the answer is 410", async () => {
    const { status, snapshot } = await readSnapshot(instance.url, `?after=${"0".repeat(32)}:0`);
    expect(status).toBe(410);
    expect(snapshot).toMatchObject({ error: "cursor_expired" });
  });

  test.each([
    ["nothing", () => ""],
    ["no number", (epoch: string) => epoch],
    ["an empty number", (epoch: string) => `${epoch}:`],
    ["a negative number", (epoch: string) => `${epoch}:-1`],
    ["a fraction", (epoch: string) => `${epoch}:1.5`],
    ["a number beyond all", (epoch: string) => `${epoch}:${"9".repeat(16)}`],
    ["upper case", (epoch: string) => `${"A".repeat(epoch.length)}:1`],
    ["a short epoch", (epoch: string) => `${epoch.slice(1)}:1`],
    ["a line more", (epoch: string) => `${epoch}:1%0a`],
    ["two cursors", (epoch: string) => `${epoch}:1&after=${epoch}:1`],
  ])("that is malformed, %s, the answer is 400", async (_, after) => {
    const [epoch = ""] = (await read()).cursor.split(":");
    const { status, snapshot } = await readSnapshot(instance.url, `?after=${after(epoch)}`);
    expect(status).toBe(400);
    expect(snapshot).toMatchObject({ error: "invalid_request" });
  });
});

describe("the ETag", () => {
  const readWith = (etag: string, query = "") => readSnapshot(instance.url, query, { "if-none-match": etag });

  test("answers 304 with when it was read, until there is a revocation", async () => {
    await revokeAndRead(1);
    const first = await readSnapshot(instance.url);
    const etag = first.headers.get("etag") ?? "";
    expect(etag).toMatch(/^(W\/)?"[^"]+"$/);
    // Of the events: that as_of rises is no reason to fetch them again.
    await eventually(async () => (await read()).as_of > first.snapshot.as_of);
    const unchanged = await readWith(etag);
    expect(unchanged.status).toBe(304);
    expect(unchanged.snapshot).toEqual({});
    expect(unchanged.headers.get("etag")).toBe(etag);
    expect(Number(unchanged.headers.get("x-as-of"))).toBeGreaterThan(first.snapshot.as_of);

    await revokeAndRead(1);
    const changed = await readWith(etag);
    expect(changed.status).toBe(200);
    expect(changed.headers.get("etag")).not.toBe(etag);
  });

  test("differs between the whole and what is later than a cursor", async () => {
    const { cursor } = await read();
    await revokeAndRead(1);
    const whole = await readSnapshot(instance.url);
    expect((await readWith(whole.headers.get("etag") ?? "", `?after=${cursor}`)).status).toBe(200);
  });
});
