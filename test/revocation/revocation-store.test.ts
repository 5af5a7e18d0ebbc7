import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import type pg from "pg";
import { dayMs, minuteMs } from "../../src/clock.ts";
import { createPool, endPool, type Pool, servingTimeouts } from "../../src/postgres/pool.ts";
import { prune } from "../../src/postgres/prune.ts";
import { createRevocationStore } from "../../src/postgres/revocations.ts";
import { createRevocationLog } from "../../src/revocation/revocation-log.ts";
import { eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { amount } from "../support/long-form.ts";
import { insertSessions, readLog, revokeIds } from "../support/revocations.ts";

let database: TestDatabase;
let pool: Pool;
let locking: pg.PoolClient | undefined;

beforeAll(async () => {
  database = await freshDatabase();
  pool = createPool({ url: database.url, max: 2, timeouts: servingTimeouts, onError: () => undefined });
});
afterEach(async () => {
  locking?.release(true);
  locking = undefined;
  await database.clear();
});
afterAll(async () => {
  await endPool(pool);
  await database.drop();
});

async function countRows(): Promise<number> {
  const { rows } = await pool.query<{ count: number }>("select count(*) from keyfleet.revocations");
  return rows[0]?.count ?? Number.NaN;
}

/** In bulk, as one statement of the serving pool could not within its time. */
async function insertRevocations(count: number): Promise<void> {
  await database.pool.query(
    `insert into keyfleet.revocations (number, type, id, revoked_at, expires_at)
     select n, 'session', gen_random_uuid()::text, now(), keyfleet.forget_after(now()) from generate_series(1, $1::int) n`,
    [count],
  );
  await database.pool.query("update keyfleet.fleet_state set revocation_number = $1", [count]);
}

test("a log of many pages is read in order, and when their time has passed table and memory shrink back", async () => {
  const count = amount(25_000, 100_000);
  await insertRevocations(count);
  let offsetMs = 0;
  const log = createRevocationLog({
    clock: { nowMs: () => Date.now() + offsetMs },
    store: createRevocationStore(pool),
  });
  const state = { epoch: "a".repeat(32), revocationNumber: count };
  await log.follow({ ...state, databaseMs: Date.now() });
  expect(log.size()).toBe(count);
  expect(log.after(0).every(({ number }, index) => number === index + 1)).toBe(true);

  // None of it may go as long as a token that it refuses could be valid.
  await prune(pool, 90 * dayMs);
  expect(await countRows()).toBe(count);

  await database.pool.query(
    `update keyfleet.revocations set revoked_at = revoked_at - interval '64 minutes',
       expires_at = expires_at - interval '64 minutes'`,
  );
  offsetMs = 64 * minuteMs;
  await log.follow({ ...state, databaseMs: Date.now() + offsetMs });
  expect(log.size()).toBe(0);
  await prune(pool, 90 * dayMs);
  expect(await countRows()).toBe(0);
}, 60_000);

test("the store gives what is unexpired after a number, in order", async () => {
  await insertRevocations(10);
  await database.pool.query("update keyfleet.revocations set expires_at = now() where number in (3, 7)");
  const store = createRevocationStore(pool);
  expect((await store.listAfter(0)).map(({ number }) => number)).toEqual([1, 2, 4, 5, 6, 8, 9, 10]);
  const [ninth] = await store.listAfter(8);
  expect(ninth).toMatchObject({ number: 9, type: "session" });
  expect((ninth?.expiresAtMs ?? 0) - (ninth?.revokedAtMs ?? 0)).toBe(62 * minuteMs);
});

test.each([
  ["of a session", "keyfleet.end_session(session_id, 'logout', null)"],
  ["of a token", "keyfleet.revoke_token('a token', null)"],
  ["of all sessions of an account", "keyfleet.end_account_sessions(account_id, null, 'logout', null)"],
])(
  "a revocation %s that has to wait takes its number last, so that no other one waits for it",
  async (_, call) => {
    const [sessionId = ""] = await insertSessions(database.pool, 1);
    await database.pool.query(
      `insert into keyfleet.accounts (id, username, password, scopes, enabled, must_change_password, version, secret_id, seal)
     values ('${sessionId}', 'somebody', '', '{}', true, false, 1, '', '');
     update keyfleet.sessions set account_id = '${sessionId}';
     insert into keyfleet.issued_tokens values
       ('a token', '${sessionId}', '', '${sessionId}', '', '', '', now(), now() + interval '1 hour')`,
    );
    locking = await database.pool.connect();
    // Whatever a revocation writes besides: it waits there.
    await locking.query("begin; lock table keyfleet.audit_events in exclusive mode");
    const waiting = database.pool.query(
      `select ${call} from (select $1::uuid as session_id, $1::uuid as account_id) given`,
      [sessionId],
    );
    await eventually(async () => {
      const { rows } = await pool.query(
        `select from pg_locks l join pg_database d on d.oid = l.database
       where not l.granted and d.datname = current_database()`,
      );
      return rows.length > 0;
    });
    const [other = ""] = await revokeIds(pool, 1);
    expect((await readLog(database.pool)).map(({ id }) => id)).toEqual([other]);
    await locking.query("rollback");
    await waiting;
    expect(await readLog(database.pool)).toMatchObject([{ number: 1, id: other }, { number: 2 }]);
  },
);
