/** What an instance says of tokens whose key was published while it was stopped: nothing, before it has read again. */

import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { addAccount } from "../support/accounts.ts";
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

async function start(syncInterval: string): Promise<TestInstance> {
  const settings = { ISSUER: issuer, FLEET_SYNC_INTERVAL: syncInterval };
  const instance = await startInstance({ databaseUrl: database.url, settings });
  started.push(instance);
  return instance;
}

test("a token of a key that it does not know yet is no unknown token: what is asked on waking is answered from a new reading", async () => {
  const answers = await askOnWaking(database, await start("200ms"), () => start("200ms"));
  const { userinfo, introspection, revocation } = answers;
  expect([userinfo.status, introspection.status, revocation.status]).toEqual([200, 200, 200]);
  expect(await introspection.json()).toMatchObject({ active: true });
  expect([answers.kept, answers.revoked]).toEqual([200, 401]);
});
