import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { runner } from "node-pg-migrate";
import { migrate } from "../../src/postgres/migrate.ts";
import { eventually } from "../support/accounts.ts";
import { emptyDatabase, type TestDatabase } from "../support/database.ts";
import { insertGrantees, type PreviousRelease, startPreviousRelease } from "./previous-release.ts";

let database: TestDatabase;
let instances: PreviousRelease[];
let failures: string[];

beforeEach(async () => {
  database = await emptyDatabase();
  failures = [];
  await runner({
    ...{ databaseUrl: database.url, direction: "up", count: 4, log: () => undefined },
    ...{ dir: fileURLToPath(new URL("../../migrations", import.meta.url)) },
    ...{ migrationsSchema: "keyfleet", createMigrationsSchema: true, migrationsTable: "migrations" },
  });
  const accountId = await insertGrantees(database.pool);
  const starting = Array.from({ length: 4 }, () => startPreviousRelease(database.url, accountId));
  instances = await Promise.all(starting);
});
afterEach(async () => {
  await Promise.all(instances.map((instance) => instance.close()));
  await database.drop();
});

/** Instances at work before, during and after: each does enough rounds that its connection has planned everything. */
async function workThrough(change: () => Promise<unknown>): Promise<void> {
  let isOver = false;
  const working = instances.map(async (instance) => {
    while (!isOver) await instance.round().catch((error: Error) => failures.push(error.message));
  });
  const moreRounds = (count: number) => {
    const from = instances.map(({ rounds }) => rounds);
    return eventually(
      () =>
        failures.length > 100 || instances.every(({ rounds }, index) => rounds - (from[index] ?? 0) >= count),
      15_000,
    );
  };
  try {
    await moreRounds(10);
    await change();
    await moreRounds(10);
  } finally {
    isOver = true;
    await Promise.all(working);
  }
}

test("no statement of the release before fails while the database is brought up to date, nor after it", async () => {
  let applied: readonly string[] = [];
  await workThrough(async () => {
    applied = await migrate({ url: database.url });
  });
  expect(applied[0]).toBe("000005_signers");
  expect(failures).toEqual([]);
});

/** A transaction that does two things, of which the second comes while the migration waits for the first. */
async function migrateBetween(first: string, second: string): Promise<readonly string[]> {
  const other = await database.pool.connect();
  try {
    // Time enough that the migration is the one that finds the deadlock, if there is one.
    await other.query("set deadlock_timeout = '10s'");
    await other.query("begin");
    await other.query(first);
    const migrated = migrate({ url: database.url });
    await eventually(async () => {
      const { rowCount } = await database.pool.query(
        `select from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a using (pid)
         where not l.granted and a.application_name = 'keyfleet-migrate'`,
      );
      return rowCount !== 0;
    });
    await other.query(second);
    await other.query("commit");
    return await migrated;
  } finally {
    other.release(true);
  }
}

test("what has read sessions and is about to write them goes on while the migration waits for it", async () => {
  const applied = await migrateBetween(
    "select from keyfleet.sessions",
    "update keyfleet.sessions set scope = scope",
  );
  expect(applied).toContain("000006_endings");
});

test("a migration that is in a deadlock is tried again", async () => {
  const [name] = (await database.pool.query("select current_database() as name")).rows.map((row) => row.name);
  await database.pool.query(`alter database ${name} set deadlock_timeout = '250ms'`);
  // The migration holds the sessions when it comes to the audit events.
  const applied = await migrateBetween(
    "lock table keyfleet.audit_events in row exclusive mode",
    "update keyfleet.sessions set scope = scope",
  );
  expect(applied).toContain("000006_endings");
});

test("control: a function that takes other parameters under its old name is noticed", async () => {
  await workThrough(() =>
    database.pool.query("alter function keyfleet.revoke_token(text, keyfleet.acting) rename to other"),
  );
  expect(failures).toContainEqual(expect.stringMatching(/keyfleet.revoke_token.* does not exist/));
});
