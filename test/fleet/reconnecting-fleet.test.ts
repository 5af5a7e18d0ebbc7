/** After an outage everybody is silent, and nobody is dead: who was away itself declares no death. */

import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { addAccount, login } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import {
  canIssue,
  eventuallyAll,
  jwksOf,
  type SilentFleet,
  sharedJwks,
  startSilentFleet,
} from "./silent-fleet.ts";
import { verifyThrough } from "./stock-verification.ts";

let database: TestDatabase;
let fleet: SilentFleet;

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  fleet = await startSilentFleet(database);
}, 20_000);
afterAll(async () => {
  await fleet.stop();
  await database.drop();
});

test("all are cut off for an hour, and reconnect at once: nobody is declared dead, and no key ends", async () => {
  const { instances, proxy } = fleet;
  const { access_token: token } = await login(instances[0].url);
  const jwks = await sharedJwks(instances);
  proxy.setMode("refuse");
  await eventuallyAll(instances, async (instance) => !(await canIssue(instance)));
  await fleet.passAnHour();
  expect(await fleet.lookForLost()).toEqual([]);

  proxy.setMode("pass");
  await eventuallyAll(instances, canIssue);
  expect(await fleet.lookForLost()).toEqual([]);
  expect(await fleet.endedKeys()).toEqual([]);
  for (const instance of instances) {
    expect(await jwksOf(instance)).toBe(jwks);
    await verifyThrough(instance, token);
    await verifyThrough(instance, (await login(instance.url)).access_token);
  }
});

test("control: one that was here all that time declares the others dead, and their keys end", async () => {
  const { instances, proxy } = fleet;
  const [here, ...away] = instances.map(({ instanceId }) => instanceId);
  proxy.setMode("refuse");
  const client = await database.pool.connect();
  try {
    await client.query("begin");
    await fleet.passAnHour(client);
    await client.query("update keyfleet.instances set heartbeat_at = clock_timestamp() where id = $1", [
      here,
    ]);
    expect(await fleet.lookForLost(client)).toEqual([...away].sort());
    expect(await fleet.endedKeys(client)).toHaveLength(4);
  } finally {
    await client.query("rollback");
    client.release();
    proxy.setMode("pass");
  }
  await eventuallyAll(instances, canIssue);
});
