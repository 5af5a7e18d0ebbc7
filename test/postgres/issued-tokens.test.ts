import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { commandTimeouts, createPool, endPool, type Pool } from "../../src/postgres/pool.ts";
import { createJti } from "../../src/tokens/access-token.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
let pool: Pool;

beforeEach(async () => {
  database = await freshDatabase();
  pool = createPool({ url: database.url, max: 2, timeouts: commandTimeouts, onError: () => undefined });
});
afterEach(async () => {
  await endPool(pool);
  await database.drop();
});

test("a record says the second that its token says, up to the last microsecond of it", async () => {
  const { rows } = await pool.query<{ at: number }>(
    `select at from (select '2026-01-01 00:00:00.999999+00'::timestamptz as at) moment,
       lateral keyfleet.record_token(
         jsonb_populate_record(null::keyfleet.issuer, $1), $2, $3, 'kid', '', '', '', at) recorded`,
    [{ instance_id: randomUUID(), token_ttl: "60 s" }, createJti(), randomUUID()],
  );
  const { rows: records } = await pool.query<{ recorded: number; expires: number }>(
    "select issued_at as recorded, expires_at as expires from keyfleet.issued_tokens",
  );
  // What the issuing statement returns is read so by the instance that signs.
  const signedAtMs = Math.floor(rows[0]?.at ?? Number.NaN);
  expect(Math.floor(signedAtMs / 1000)).toBe(Date.UTC(2026, 0, 1) / 1000);
  expect(records).toEqual([{ recorded: signedAtMs, expires: signedAtMs + 60_000 }]);
});
