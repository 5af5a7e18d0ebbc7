/** Two processes under one instance id, as the copy of a running machine makes them: both begin anew, with new keys. */

import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { decodeProtectedHeader } from "jose";
import { addAccount, eventually, login } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, startInstance, type TestInstance } from "../support/instance.ts";
import { servedKeys } from "./stock-verification.ts";

const sharedId = "11111111-2222-4333-8444-555555555555";
/** The first random UUID that the process asks for without a cache, which is its instance's id, is this one. */
const preload = `data:text/javascript,${encodeURIComponent(`
  import crypto from "node:crypto"; import { syncBuiltinESMExports } from "node:module";
  const { randomUUID } = crypto; let isFirst = true;
  crypto.randomUUID = (options) => {
    if (!isFirst || !options?.disableEntropyCache) return randomUUID(options);
    isFirst = false;
    return "${sharedId}";
  };
  syncBuiltinESMExports();`)}`;

let database: TestDatabase;
let started: TestInstance[] = [];

beforeEach(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
});
afterEach(async () => {
  await Promise.all(started.map((instance) => instance.stop("SIGKILL")));
  started = [];
  await database.drop();
});

async function start(): Promise<TestInstance> {
  const settings = { ISSUER: "https://id.example" };
  const nodeFlags = ["--import", preload];
  const instance = await startInstance({ databaseUrl: database.url, settings, nodeFlags });
  started.push(instance);
  return instance;
}

test("a double of an instance is seen; both go on under new ids, with new keys, and say so", async () => {
  const first = await start();
  expect(first.instanceId).toBe(sharedId);
  const { kid: sharedKid = "" } = decodeProtectedHeader((await login(first.url)).access_token);
  const second = await start();
  const isRenewed = (instance: TestInstance) => instance.output().includes("both begin anew");
  await eventually(() => isRenewed(first) || isRenewed(second));
  // Whoever was not told sees that its id has ended.
  await eventually(async () => {
    const { rows } = await database.pool.query(
      "select from keyfleet.instances where id <> $1 and stopped_at is null",
      [sharedId],
    );
    return rows.length === 2;
  }, 15_000);
  for (const instance of [first, second]) {
    await eventually(async () => {
      const response = await fetch(`${instance.url}/readyz/issue`).catch(() => undefined);
      return response?.status === 200;
    });
    const { kid } = decodeProtectedHeader((await login(instance.url)).access_token);
    expect(kid).not.toBe(sharedKid);
    expect((await servedKeys(instance)).has(sharedKid)).toBe(true);
  }
  for (const instance of [first, second]) {
    expect(instance.output()).toContain("both begin anew");
    expect(await readMetric(instance, "keyfleet_duplicated_instances_total")).toBeGreaterThan(0);
  }
});
