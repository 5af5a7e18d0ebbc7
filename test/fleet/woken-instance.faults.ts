/** The control of `woken-instance.test.ts`: what an instance says that takes an old reading for a new one. */

import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { addAccount, eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { askOnWaking, issuer } from "./asked-on-waking.ts";

let database: TestDatabase;
let started: TestInstance[];

beforeEach(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  started = [];
});
afterEach(async () => {
  for (const instance of started) instance.process.kill("SIGCONT");
  await Promise.all(started.map((instance) => instance.stop("SIGKILL")));
  await database.drop();
});

async function start(syncInterval: string, untilReady = true): Promise<TestInstance> {
  const settings = { ISSUER: issuer, FLEET_SYNC_INTERVAL: syncInterval };
  const instance = await startInstance({ databaseUrl: database.url, settings, untilReady });
  started.push(instance);
  return instance;
}

/** By an interval of ten seconds what it read within twenty is current, though the other signs after less than one. */
test("control: without a new reading, a good token is none on waking", async () => {
  const woken = await start("10s", false);
  // It has read: to sign it would need two intervals.
  await eventually(async () => (await fetch(`${woken.url}/.well-known/jwks.json`)).status === 200);
  const { userinfo, kept } = await askOnWaking(database, woken, () => start("200ms"));
  expect([userinfo.status, kept]).toEqual([401, 200]);
});
