/** The sign of life of an instance, which three times missing would make it silent. */

import { afterEach, beforeEach, test } from "@jest/globals";
import { eventually } from "../support/accounts.ts";
import { freshDatabase, inTransaction, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";

let database: TestDatabase;
let instance: TestInstance;

beforeEach(async () => {
  database = await freshDatabase();
  instance = await startInstance({ databaseUrl: database.url });
});
afterEach(async () => {
  await instance.stop("SIGKILL");
  await database.drop();
});

test("one that failed is tried again soon, not when the next is due", async () => {
  // Nothing else fails, of which the end would be a reason for a sign of life of its own.
  await inTransaction(database.pool, async (locking) => {
    await locking.query("select from keyfleet.instances where id = $1 for update", [instance.instanceId]);
    await eventually(() => instance.output().includes("heartbeat fails"), 10_000, 50);
  });
  // The next is due after 5 s.
  await eventually(() => instance.output().includes("heartbeat works again"), 3000, 50);
});
