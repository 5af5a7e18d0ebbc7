/** Two processes under one instance id, as the copy of a running machine makes them: both begin anew, with new keys. */

import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { decodeProtectedHeader } from "jose";
import { replaceInFunction } from "../postgres/fleet-rows.ts";
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

const comparison = /if i\.beat not in \(p_expected, p_beat\) then/;
const unnoticed = `if i.beat not in (p_expected, p_beat) then
    perform keyfleet.audit((null, null, null), 'unnoticed', null, null, null, null, null);
  end if; if false then`;

/** The next beat would come within 5 s: who hears nothing any more has one to say so. */
async function haveThemBeat(): Promise<void> {
  await database.pool.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where datname = current_database() and application_name = 'keyfleet-listen'`,
  );
}

async function count(what: string): Promise<number> {
  const { rows } = await database.pool.query<{ count: number }>(`select count(*)::int from keyfleet.${what}`);
  return rows[0]?.count ?? Number.NaN;
}

test("a double of an instance is seen; both go on under new ids, with new keys, and say so", async () => {
  const first = await start();
  expect(first.instanceId).toBe(sharedId);
  const { kid: sharedKid = "" } = decodeProtectedHeader((await login(first.url)).access_token);
  const putBack = await replaceInFunction(database.pool, "beat", comparison, unnoticed);
  const second = await start();
  await haveThemBeat();
  // Control: each has met the other's beat, and where nobody compares them both go on, with the keys of two.
  await eventually(async () => (await count("audit_events where event = 'unnoticed'")) >= 2);
  await eventually(async () => (await count(`signing_keys where instance_id = '${sharedId}'`)) === 4);
  for (const instance of [first, second]) await login(instance.url);

  await putBack();
  await haveThemBeat();
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
