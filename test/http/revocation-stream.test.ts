import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, startInstance, type TestInstance } from "../support/instance.ts";
import {
  asOfOf,
  openStream,
  readSnapshot,
  revocationOf,
  type StreamConnection,
  type StreamOptions,
} from "../support/revocation-stream.ts";
import { revokeIds } from "../support/revocations.ts";

let database: TestDatabase;
let instance: TestInstance;
const open: StreamConnection[] = [];

beforeAll(async () => {
  database = await freshDatabase();
  instance = await startInstance({ databaseUrl: database.url });
});
afterEach(() => {
  for (const stream of open.splice(0)) stream.close();
});
afterAll(async () => {
  await instance?.stop("SIGKILL");
  await database.drop();
});

async function connect(options: StreamOptions = {}, url = instance.url): Promise<StreamConnection> {
  const stream = await openStream(url, options);
  open.push(stream);
  return stream;
}

const ofType = (stream: StreamConnection, type: string) =>
  stream.events.filter((event) => event.type === type);
const idsOn = (stream: StreamConnection) =>
  ofType(stream, "revocation").map((event) => revocationOf(event).id);

async function connectUntilReady(options: StreamOptions = {}): Promise<StreamConnection> {
  const stream = await connect(options);
  await eventually(() => ofType(stream, "ready").length === 1);
  return stream;
}

/** Revokes made-up ids, waits until the instance has read them; with the cursors before and after. */
async function revokeAndRead(count: number) {
  const { cursor: before } = (await readSnapshot(instance.url)).snapshot;
  const ids = await revokeIds(database.pool, count);
  let after = before;
  await eventually(async () => {
    const { snapshot } = await readSnapshot(instance.url, `?after=${before}`);
    after = snapshot.cursor;
    return snapshot.events.some(({ id }) => id === ids.at(-1));
  });
  return { before, ids, after };
}

describe("the stream", () => {
  test("is server-sent events that nothing on the way may keep, change or hold back", async () => {
    const { status, headers } = await connectUntilReady();
    expect(status).toBe(200);
    expect(headers["content-type"]).toBe("text/event-stream");
    expect(headers["cache-control"]).toBe("no-store, no-transform");
    expect(headers["x-accel-buffering"]).toBe("no");
    expect(headers["content-encoding"]).toBeUndefined();
  });

  test("begins with all that is unexpired, each under its cursor, and then is ready", async () => {
    const { ids, after } = await revokeAndRead(2);
    const { snapshot } = await readSnapshot(instance.url);
    const stream = await connectUntilReady();
    const upToReady = stream.events.slice(0, snapshot.events.length + 1);
    const last = upToReady.pop();
    expect(upToReady.map(({ type }) => type)).toEqual(upToReady.map(() => "revocation"));
    expect(upToReady.map(revocationOf)).toEqual(snapshot.events);
    expect(idsOn(stream).slice(-2)).toEqual(ids);
    expect(upToReady.at(-1)?.id).toBe(after);
    expect(last).toMatchObject({ type: "ready", id: after });
    expect(asOfOf(last)).toBeGreaterThanOrEqual(snapshot.as_of);
  });

  test("goes on with each as it comes, numbered without a gap", async () => {
    const stream = await connectUntilReady();
    const [epoch, number] = (ofType(stream, "ready")[0]?.id ?? "").split(":");
    const { ids } = await revokeAndRead(3);
    await eventually(() => idsOn(stream).slice(-3).join() === ids.join());
    const live = ofType(stream, "revocation").slice(-3);
    expect(live.map(({ id }) => id)).toEqual([1, 2, 3].map((step) => `${epoch}:${Number(number) + step}`));
  });

  test("has a heartbeat every second, with the time up to which the log was read", async () => {
    const stream = await connectUntilReady();
    await eventually(() => ofType(stream, "heartbeat").length >= 4);
    const heartbeats = ofType(stream, "heartbeat").slice(0, 4);
    const gapsMs = heartbeats.slice(1).map(({ atMs }, index) => atMs - (heartbeats[index]?.atMs ?? 0));
    for (const gapMs of gapsMs) {
      expect(gapMs).toBeGreaterThan(500);
      expect(gapMs).toBeLessThan(2000);
    }
    const { rows } = await database.pool.query<{ now: number }>(
      "select extract(epoch from clock_timestamp())::float8 as now",
    );
    const behindSeconds = (rows[0]?.now ?? 0) - asOfOf(heartbeats[3]);
    expect(behindSeconds).toBeGreaterThanOrEqual(0);
    expect(behindSeconds).toBeLessThan(3);
    // In whole seconds, of a reading of just before.
    const asOfs = heartbeats.map(asOfOf);
    expect(asOfs).toEqual([...asOfs].sort((a, b) => a - b));
    expect(new Set(asOfs).size).toBeGreaterThanOrEqual(2);
    for (const { id } of heartbeats) expect(id).toBeUndefined();
  });

  test("is not opened by HEAD, which ends", async () => {
    const response = await fetch(`${instance.url}/revocations/stream`, {
      method: "HEAD",
      signal: AbortSignal.timeout(5000),
    });
    expect(response.status).toBe(200);
    await eventually(async () => (await readMetric(instance, "keyfleet_stream_consumers")) === 0);
  });
});

describe("a consumer that comes with the last id it has read", () => {
  test("hears the later ones alone", async () => {
    const { before, ids, after } = await revokeAndRead(3);
    expect(idsOn(await connectUntilReady({ lastEventId: before }))).toEqual(ids);
    const upToDate = await connectUntilReady({ lastEventId: after });
    expect(idsOn(upToDate)).toEqual([]);
    const { ids: next } = await revokeAndRead(1);
    await eventually(() => idsOn(upToDate).length === 1);
    expect(idsOn(upToDate)).toEqual(next);
  });

  test.each([
    ["is of another epoch", () => `${"0".repeat(32)}:1`],
    ["is malformed", (epoch: string) => `${epoch}:x`],
    ["is empty", () => ""],
  ])("hears everything where that %s", async (_, lastEventId) => {
    await revokeAndRead(2);
    const { cursor, events } = (await readSnapshot(instance.url)).snapshot;
    const [epoch = ""] = cursor.split(":");
    const stream = await connectUntilReady({ lastEventId: lastEventId(epoch) });
    expect(ofType(stream, "revocation").map(revocationOf)).toEqual(events);
  });

  test("hears nothing twice where it is ahead of this instance", async () => {
    const { after } = await revokeAndRead(1);
    const [epoch, number] = after.split(":");
    const ahead = `${epoch}:${Number(number) + 2}`;
    const stream = await connectUntilReady({ lastEventId: ahead });
    expect(ofType(stream, "ready")[0]?.id).toBe(ahead);
    const one = await revokeAndRead(1);
    const three = await revokeAndRead(3);
    await eventually(() => idsOn(stream).includes(three.ids[2] ?? ""));
    expect(idsOn(stream)).toEqual(three.ids.slice(1));
    expect(idsOn(stream)).not.toContain(one.ids[0]);
  });
});
