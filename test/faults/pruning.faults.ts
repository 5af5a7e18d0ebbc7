/** An instance prunes by itself, every five minutes: the waiting is shortened by a calendar that is about to say so. */

import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { minuteMs, secondMs } from "../../src/clock.ts";
import { eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, startInstance, type TestInstance } from "../support/instance.ts";
import { wrongCalendar } from "../support/wrong-calendar.ts";

const everyMs = 5 * minuteMs;
/** For the start. */
const leadMs = 10 * secondMs;
/** Not all instances begin at once. */
const delayMaxMs = minuteMs;

let database: TestDatabase;
let instance: TestInstance;

beforeEach(async () => {
  database = await freshDatabase();
  const shiftMs = everyMs - leadMs - (Date.now() % everyMs);
  instance = await startInstance({ databaseUrl: database.url, nodeFlags: wrongCalendar(String(shiftMs)) });
});
afterEach(async () => {
  await instance.stop("SIGKILL");
  await database.drop();
});

test("what is over goes, is counted by its table, and nothing else goes", async () => {
  const insert = (count: number, from: string) =>
    database.pool.query(
      `insert into keyfleet.issued_tokens
         (jti, session_id, kid, instance_id, client_id, audience, scope, issued_at, expires_at)
       select gen_random_uuid()::text, gen_random_uuid(), 'kid', gen_random_uuid(), 'web', 'a', '',
              now() + $2::interval, now() + $2::interval + interval '15 minutes'
       from generate_series(1, $1::int)`,
      [count, from],
    );
  await insert(2500, "-2 hours");
  await insert(10, "0 s");
  const counted = () => readMetric(instance, 'keyfleet_pruned_rows_total{table="issued_tokens"}');
  expect(await counted()).toBe(0);
  await eventually(async () => (await counted()) > 0, leadMs + delayMaxMs + 15_000, 250);
  expect(await counted()).toBe(2500);
  expect((await database.pool.query("select from keyfleet.issued_tokens")).rowCount).toBe(10);
});
