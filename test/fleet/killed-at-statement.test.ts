/** SIGKILL at named points of an instance, and commits whose outcome it never learns: nothing is lost, nothing is half. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { decodeProtectedHeader } from "jose";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { whileReplaced } from "../postgres/fleet-rows.ts";
import { addAccount, eventually, login, postLogin } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, type Settings, startInstance, type TestInstance } from "../support/instance.ts";
import { readSnapshot } from "../support/revocation-stream.ts";
import { readLog } from "../support/revocations.ts";
import {
  type StatementProxy,
  type Strike,
  type Struck,
  startStatementProxy,
} from "../support/statement-proxy.ts";
import { servedKeys, verifyThrough } from "./stock-verification.ts";
import { numberAfterAnUndoneOne } from "./undone-revocation.ts";

const loanMessage = "pg_notify(channel, message)";
const settings = { ISSUER: "https://id.example" };

let database: TestDatabase;
let proxy: StatementProxy;
/** The one that is left, whatever is killed beside it. */
let survivor: TestInstance;
/** By a test, which is their end as well. */
let started: TestInstance[] = [];
const lasting: TestInstance[] = [];

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  proxy = await startStatementProxy(database.url);
  survivor = await start(database.url, {}, true, lasting);
}, 20_000);
afterEach(async () => {
  await Promise.all(started.map((instance) => instance.stop("SIGKILL")));
  started = [];
  // The next test is to find the survivor alone.
  await database.pool.query(
    "update keyfleet.instances set heartbeat_at = heartbeat_at - interval '1 hour' where id <> all ($1)",
    [lasting.map(({ instanceId }) => instanceId)],
  );
});
afterAll(async () => {
  await Promise.all(lasting.map((instance) => instance.stop("SIGKILL")));
  await proxy.close();
  await database.drop();
});

async function start(
  databaseUrl: string,
  given: Settings = {},
  untilReady = true,
  among = started,
): Promise<TestInstance> {
  const instance = await startInstance({ databaseUrl, settings: { ...settings, ...given }, untilReady });
  among.push(instance);
  return instance;
}

const post = (url: string, members: Record<string, string>) =>
  fetch(url, { method: "POST", body: new URLSearchParams(members) });
const refresh = ({ url }: TestInstance, { refresh_token }: TokenResponse) =>
  post(`${url}/token`, { grant_type: "refresh_token", refresh_token });
const logOut = ({ url }: TestInstance, { refresh_token }: TokenResponse) =>
  post(`${url}/logout`, { refresh_token });

/** Kills the instance when its statements have come that far, under requests that are then never answered. */
async function killAt(instance: TestInstance, asked: readonly (readonly [Struck, Promise<Response>])[]) {
  const answers = Promise.allSettled(asked.map(([, answer]) => answer));
  await Promise.all(asked.map(([struck]) => struck.reached));
  await instance.stop("SIGKILL");
  expect((await answers).map(({ status }) => status)).toEqual(asked.map(() => "rejected"));
}

async function count(table: string, where = "true", values: unknown[] = []): Promise<number> {
  const { rows } = await database.pool.query<{ count: number }>(
    `select count(*)::int from keyfleet.${table} where ${where}`,
    values,
  );
  return rows[0]?.count ?? Number.NaN;
}

async function keysOf(instanceId: string): Promise<readonly string[]> {
  const { rows } = await database.pool.query<{ kid: string }>(
    "select kid from keyfleet.signing_keys where instance_id = $1",
    [instanceId],
  );
  return rows.map(({ kid }) => kid);
}

const strikes: [string, Strike][] = [
  ["before", "hold"],
  ["after", "swallow"],
];

describe.each(strikes)("SIGKILL %s the commit of", (_, strike) => {
  test("a publication: the row is whole or not there, signs nothing, and is retired with the dead", async () => {
    const served = () => servedKeys(survivor);
    const before = await served();
    const struck = proxy.strikeAt("keyfleet.publish_key(", strike);
    const victim = await start(proxy.url, {}, false);
    await struck.reached;
    await victim.stop("SIGKILL");
    const { rows } = await database.pool.query<{ id: string }>(
      "select id from keyfleet.instances order by started_at desc limit 1",
    );
    const victimId = rows[0]?.id ?? "";
    const left = await keysOf(victimId);
    expect(left).toHaveLength(strike === "hold" ? 0 : 1);
    await eventually(async () => {
      const added = [...(await served()).keys()].filter((kid) => !before.has(kid));
      return added.length === left.length && left.every((kid) => added.includes(kid));
    });
    const { access_token } = await login(survivor.url);
    await verifyThrough(survivor, access_token);
    expect(left).not.toContain(decodeProtectedHeader(access_token).kid);

    const retire = () =>
      database.pool.query("select keyfleet.retire_lost_instances($1)", [survivor.instanceId]);
    // Control: were nobody taken for dead, the key would stay until its own end.
    const silence = ["is_dead", /select p_heartbeat_at/, "select false and p_heartbeat_at"] as const;
    await whileReplaced(database.pool, silence, async () => {
      await database.pool.query(
        `update keyfleet.instances set connected_since = connected_since - interval '1 hour',
           heartbeat_at = case when id = $1 then heartbeat_at else heartbeat_at - interval '1 hour' end`,
        [survivor.instanceId],
      );
      await retire();
      const isLeft = "kid = any ($1) and keyfleet.key_retirement(k) > now()";
      expect(await count("signing_keys k", isLeft, [left])).toBe(left.length);
    });
    await retire();
    await eventually(async () => {
      const keys = await served();
      return !left.some((kid) => keys.has(kid));
    });
    const own = await keysOf(survivor.instanceId);
    expect([...(await served()).keys()]).toEqual(expect.arrayContaining([...own]));
  });

  test("a login, a refresh and a logout: another instance takes them, no session is lost, and each is done once", async () => {
    const victim = await start(proxy.url);
    const [first, ended] = [await login(victim.url), await login(victim.url)];
    const [sessions, log] = [await count("sessions"), await readLog(database.pool)];
    await killAt(victim, [
      [proxy.strikeAt("keyfleet.start_session(", strike), postLogin(victim.url)],
      [proxy.strikeAt("keyfleet.refresh_session(", strike), refresh(victim, first)],
      [proxy.strikeAt("keyfleet.end_session_by_refresh_token(", strike), logOut(victim, ended)],
    ]);
    await verifyThrough(survivor, (await login(survivor.url)).access_token);
    // One that nobody was given ends by itself.
    expect((await count("sessions")) - sessions).toBe(strike === "hold" ? 1 : 2);

    const repeated = await refresh(survivor, first);
    expect(repeated.status).toBe(200);
    const second = (await repeated.json()) as TokenResponse;
    await verifyThrough(survivor, second.access_token);
    expect(second.session_id).toBe(first.session_id);
    expect((await refresh(survivor, second)).status).toBe(200);

    expect((await logOut(survivor, ended)).status).toBe(204);
    await eventually(async () => {
      const { events } = (await readSnapshot(survivor.url)).snapshot;
      return events.some(({ id }) => id === ended.session_id);
    }, 1000);
    expect(await readLog(database.pool)).toEqual([...log, { number: log.length + 1, id: ended.session_id }]);
    expect((await refresh(survivor, ended)).status).toBe(400);
    // Control: did nobody look whether the session has ended, the log would have it twice.
    const look = ["end_session", / and ended_at is null/, ""] as const;
    await whileReplaced(database.pool, look, () => logOut(survivor, ended));
    expect(await count("revocations", "id = $1", [ended.session_id])).toBe(2);
  });
});

test("control: without its grace, a refresh that was committed and not answered costs the session", async () => {
  const withoutGrace = { REFRESH_GRACE: "0s" };
  const [victim, other] = await Promise.all([
    start(proxy.url, withoutGrace),
    start(database.url, withoutGrace),
  ]);
  const first = await login(victim.url);
  const struck = proxy.strikeAt("keyfleet.refresh_session(", "swallow");
  await killAt(victim, [[struck, refresh(victim, first)]]);
  expect((await refresh(other, first)).status).toBe(400);
});

test("SIGKILL in the midst of a revocation, which waits for its number: the log has it once, without a gap", async () => {
  const victim = await start(proxy.url);
  const sessions = [await login(victim.url), await login(victim.url)] as const;
  const before = (await readLog(database.pool)).length;
  const locking = await database.pool.connect();
  try {
    await locking.query("begin; select from keyfleet.fleet_state for update");
    const asked = logOut(victim, sessions[0]);
    asked.catch(() => undefined);
    await eventually(async () => {
      const { rows } = await database.pool.query(
        "select from pg_stat_activity where wait_event_type = 'Lock' and query like '%end_session_by_refresh_token%'",
      );
      return rows.length > 0;
    });
    await victim.stop("SIGKILL");
    await locking.query("commit");
  } finally {
    locking.release(true);
  }
  for (const session of sessions) expect((await logOut(survivor, session)).status).toBe(204);
  const log = (await readLog(database.pool)).slice(before);
  expect(log.map(({ number }) => number)).toEqual([before + 1, before + 2]);
  expect(new Set(log.map(({ id }) => id))).toEqual(new Set(sessions.map(({ session_id }) => session_id)));
  expect(await numberAfterAnUndoneOne(database.pool)).toBe(1);
  // Control: a number that is not the transaction's own is gone with it.
  const sequence = "last := nextval('numbers');";
  const counter = /update keyfleet\.fleet_state set [^;]+;/;
  expect(await numberAfterAnUndoneOne(database.pool, [counter, sequence])).toBe(2);
});

/** The survivor is the one that lends. */
describe("SIGKILL in the midst of a loan", () => {
  test("at the borrower: what it was asked for is had elsewhere, a refresh by the same token too", async () => {
    const first = await login(survivor.url);
    const ended = await count("sessions", "ended_at is not null");
    for (const ask of [postLogin, (url: string) => refresh({ ...survivor, url }, first)]) {
      const borrower = await start(proxy.url, { MAX_SIGNERS: "1" });
      const struck = proxy.strikeAt(loanMessage, "hold");
      await killAt(borrower, [[struck, ask(borrower.url)]]);
      const answer = await ask(survivor.url);
      expect(answer.status).toBe(200);
      await verifyThrough(survivor, ((await answer.json()) as TokenResponse).access_token);
    }
    expect(await count("sessions", "ended_at is not null")).toBe(ended);
  });

  test("at the lender: the borrower has another sign, and the client notices nothing", async () => {
    const lender = await start(proxy.url, { MAX_SIGNERS: "2" });
    const borrower = await start(database.url, { MAX_SIGNERS: "2" });
    let killed: Promise<unknown> | undefined;
    const struck = proxy.strikeAt(loanMessage, "hold");
    void struck.reached.then(() => {
      killed = lender.stop("SIGKILL");
    });
    while (killed === undefined) await verifyThrough(borrower, (await login(borrower.url)).access_token);
    await killed;
    expect(await readMetric(borrower, 'keyfleet_signature_loans_total{outcome="unanswered"}')).toBe(1);
    await verifyThrough(borrower, (await login(borrower.url)).access_token);
  });
});

describe("where an instance never learns that it was committed", () => {
  let instance: TestInstance;
  beforeAll(async () => {
    const struck = proxy.strikeAt("keyfleet.publish_key(", "swallow");
    instance = await start(proxy.url, {}, true, lasting);
    await struck.reached;
  }, 20_000);

  test("a publication is tried again with the same key: the ring has two, and no row is left over", async () => {
    const { access_token } = await login(instance.url);
    await verifyThrough(instance, access_token);
    const published = await keysOf(instance.instanceId);
    expect(published).toHaveLength(2);
    expect(published).toContain(decodeProtectedHeader(access_token).kid);
    const repeat = async () => {
      const { rows } = await database.pool.query(
        `select keyfleet.publish_key(k, k.published_at, 16) as outcome from keyfleet.signing_keys k where kid =
           (select kid from keyfleet.signing_keys where instance_id = $1 order by published_at limit 1)`,
        [instance.instanceId],
      );
      return rows;
    };
    expect(await repeat()).toEqual([{ outcome: "published" }]);
    // Control: were its row not looked for, it could only be made anew.
    const look = ["publish_key", /if found then return 'published'; end if;/, ""] as const;
    expect(await whileReplaced(database.pool, look, repeat)).toEqual([{ outcome: "clock_differs" }]);
  });

  test("a login, a refresh and a logout are answered 503 within two seconds, and can be repeated", async () => {
    const session = await login(instance.url);
    const requests: [string, () => Promise<Response>][] = [
      ["keyfleet.start_session(", () => postLogin(instance.url)],
      ["keyfleet.refresh_session(", () => refresh(instance, session)],
      ["keyfleet.end_session_by_refresh_token(", () => logOut(instance, session)],
    ];
    for (const [text, ask] of requests) {
      const struck = proxy.strikeAt(text, "swallow");
      const beganMs = performance.now();
      expect((await ask()).status).toBe(503);
      expect(performance.now() - beganMs).toBeLessThan(2000);
      await struck.reached;
      expect((await ask()).ok).toBe(true);
    }
  });
});
