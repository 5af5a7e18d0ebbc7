import { readdirSync } from "node:fs";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { migrate } from "../../src/postgres/migrate.ts";
import { emptyDatabase, type TestDatabase } from "../support/database.ts";

const migrations = readdirSync(new URL("../../migrations/", import.meta.url)).map((name) =>
  name.replace(".sql", ""),
);

let database: TestDatabase;
beforeEach(async () => {
  database = await emptyDatabase();
});
afterEach(() => database.drop());

test("eight migrators at once on an empty database migrate it exactly once", async () => {
  const applied = await Promise.all(Array.from({ length: 8 }, () => migrate({ url: database.url })));
  expect(applied.flat()).toEqual(migrations);
  const { rows } = await database.pool.query("select name from keyfleet.migrations order by id");
  expect(rows.map(({ name }) => name)).toEqual(migrations);
});

test("a second time there is nothing to do, and nobody is waited for: behind a pooler a lock may have stayed", async () => {
  await migrate({ url: database.url });
  const other = await database.pool.connect();
  await other.query("select pg_advisory_lock(7241865325823964)");
  expect(await migrate({ url: database.url })).toEqual([]);
  await other.query("select pg_advisory_unlock_all()");
  other.release();
});

test("a migrator waits for one that is under way, and blocks nobody for long", async () => {
  const other = await database.pool.connect();
  await other.query("select pg_advisory_lock(7241865325823964)");
  const waiting: string[] = [];
  const migrated = migrate({ url: database.url, log: (message) => waiting.push(message) });
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      if (waiting.length === 0) return;
      clearInterval(timer);
      resolve();
    }, 20);
  });
  other.release(true);
  expect(await migrated).toEqual(migrations);
});

test("an unreachable database is an error that names no password", async () => {
  const url = new URL(database.url);
  url.port = "1";
  url.password = "canary";
  const error = await migrate({ url: url.href }).then(
    () => undefined,
    (thrown: Error) => thrown,
  );
  expect(error).toMatchObject({ code: "ECONNREFUSED" });
  expect(String(error?.stack)).not.toContain("canary");
});
