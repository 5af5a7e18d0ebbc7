import { afterEach, beforeEach, expect, test } from "@jest/globals";
import pg from "pg";
import { eventually } from "../support/accounts.ts";
import { emptyDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";

/** node-pg-migrate's. */
const migrationLock = "7241865325823964";

let database: TestDatabase;
let instance: TestInstance | undefined;
let holder: pg.Client;

beforeEach(async () => {
  database = await emptyDatabase();
  holder = new pg.Client({ connectionString: database.url });
  await holder.connect();
});
afterEach(async () => {
  await instance?.stop("SIGKILL");
  await holder.end();
  await database.drop();
});

test("an instance whose connection breaks while it migrates goes on by itself", async () => {
  await holder.query(`select pg_advisory_lock(${migrationLock})`);
  instance = await startInstance({ databaseUrl: database.url, untilReady: false });
  const terminateMigrator = async () =>
    (
      await database.pool.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and application_name = 'keyfleet-migrate' and wait_event = 'advisory'`,
      )
    ).rowCount === 1;
  await eventually(terminateMigrator);
  await eventually(terminateMigrator);
  await holder.query(`select pg_advisory_unlock(${migrationLock})`);
  const { url } = instance;
  await eventually(async () => (await fetch(`${url}/readyz/issue`)).status === 200);
  expect(instance.process.exitCode).toBeNull();
});
