import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { dayMs } from "../../src/clock.ts";
import { createPool, endPool, type Pool, type Queryable, servingTimeouts } from "../../src/postgres/pool.ts";
import { prune } from "../../src/postgres/prune.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
let pool: Pool;

beforeAll(async () => {
  database = await freshDatabase();
  pool = createPool({ url: database.url, max: 4, timeouts: servingTimeouts, onError: () => undefined });
});
afterEach(() => database.clear());
afterAll(async () => {
  await endPool(pool);
  await database.drop();
});

const sql = (text: string, values: unknown[] = []) => database.pool.query(text, values);

/** That many tokens, which expired so long ago (an interval; negative: they will). */
const insertTokens = (count: number, expiredAgo: string) =>
  sql(
    `insert into keyfleet.issued_tokens
       (jti, session_id, kid, instance_id, client_id, audience, scope, issued_at, expires_at)
     select gen_random_uuid()::text, gen_random_uuid(), 'kid', gen_random_uuid(), 'web', 'a', '',
            now() - $2::interval - interval '15 minutes', now() - $2::interval
     from generate_series(1, $1::int)`,
    [count, expiredAgo],
  );

/** `endedAgo` null: alive until its absolute end. */
const insertSessions = (count: number, endedAgo: string | null, expiredAgo = "-90 days") =>
  sql(
    `insert into keyfleet.sessions (id, client_id, audience, scope, auth_time, expires_at, address, user_agent,
       secret_id, seal, rotated_at, ended_at)
     select gen_random_uuid(), 'web', 'a', '', now(), now() - $3::interval, '', '', '', '', now(), now() - $2::interval
     from generate_series(1, $1::int)`,
    [count, endedAgo, expiredAgo],
  );

const insertEvents = (count: number, ago: string) =>
  sql(
    `insert into keyfleet.audit_events (at, event) select now() - $2::interval, 'login' from generate_series(1, $1::int)`,
    [count, ago],
  );

async function countOf(table: string): Promise<number> {
  return (await sql(`select from keyfleet.${table}`)).rowCount ?? Number.NaN;
}

test("what nothing can need any more goes, in small batches, and nothing else", async () => {
  await insertTokens(2500, "61 minutes");
  await insertTokens(10, "59 minutes");
  await insertTokens(10, "-15 minutes");
  await insertSessions(1200, "25 hours");
  await insertSessions(10, null, "25 hours");
  await insertSessions(10, "23 hours");
  await insertSessions(10, null);
  await insertEvents(1500, "91 days");
  await insertEvents(10, "89 days");
  const batches: number[] = [];
  const counting: Queryable = {
    async query(text, values) {
      const result = await pool.query(text, values as unknown[]);
      batches.push(result.rowCount ?? 0);
      return result as never;
    },
  };
  expect(await prune(counting, 90 * dayMs)).toMatchObject({
    issued_tokens: 2500,
    sessions: 1210,
    audit_events: 1500,
  });
  expect(Math.max(...batches)).toBe(1000);
  expect(await countOf("issued_tokens")).toBe(20);
  expect(await countOf("sessions")).toBe(20);
  expect(await countOf("audit_events")).toBe(10);
});

test("several instances prune at once, and each row once", async () => {
  await insertTokens(3500, "2 hours");
  const pruned = await Promise.all([1, 2, 3, 4].map(() => prune(pool, 90 * dayMs)));
  expect(pruned.reduce((sum, { issued_tokens = 0 }) => sum + issued_tokens, 0)).toBe(3500);
  expect(await countOf("issued_tokens")).toBe(0);
});

test("large tables are not read from end to end: what is done is found by an index", async () => {
  await insertTokens(20_000, "-15 minutes");
  await insertSessions(20_000, null);
  await sql(
    `insert into keyfleet.revocations select n, 'session', $1, now(), now() + interval '1 hour'
     from generate_series(1, 20000) n`,
    [randomUUID()],
  );
  await insertEvents(20_000, "1 day");
  await sql("analyze");
  const plans = new Map<string, string>();
  const explaining: Queryable = {
    async query(text, values) {
      const { rows } = await pool.query(`explain ${text}`, values as unknown[]);
      const [, table = ""] = /delete from keyfleet\.(\w+)/.exec(text) ?? [];
      plans.set(table, rows.map((row) => row["QUERY PLAN"]).join("\n"));
      return { rows: [], rowCount: 0 } as never;
    },
  };
  await prune(explaining, 90 * dayMs);
  for (const table of ["issued_tokens", "sessions", "revocations", "audit_events"]) {
    expect(plans.get(table)).not.toMatch(/Seq Scan/);
  }
});

test("audit events are only appended: neither changed, nor deleted before their time, nor emptied out", async () => {
  await insertEvents(3, "22 hours");
  for (const attempt of [
    "update keyfleet.audit_events set actor = 'command'",
    "delete from keyfleet.audit_events",
    "truncate keyfleet.audit_events",
  ]) {
    await expect(sql(attempt)).rejects.toThrow("audit events are only appended");
  }
  expect(await countOf("audit_events")).toBe(3);
  await insertEvents(2, "25 hours");
  await sql("delete from keyfleet.audit_events where at < now() - interval '1 day'");
  expect(await countOf("audit_events")).toBe(3);
});
