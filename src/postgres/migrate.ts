/** Brings the schema up to date: forward only, a transaction each, one migrator at a time. */

import { readdir } from "node:fs/promises";
import { basename } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";

const migrationsDirectory = fileURLToPath(new URL("../../migrations", import.meta.url));
/** lock_not_available, deadlock_detected: whoever holds what is wanted goes on, and the migration has changed nothing. */
const waited = new Set<unknown>(["55P03", "40P01"]);
const undefinedTable = "42P01";
/** A waiting DDL statement blocks everyone behind it, who wait for 900 ms: it gives up before, and tries again. */
const lockTimeoutMs = 400;
const attempts = 150;

/**
 * Applies what is missing and returns its names. Safe while instances run and with several migrators at once: they
 * wait for each other under an advisory lock of the session, so where something is missing the url must not go through
 * a transaction pooler, behind which the lock may stay. Where nothing is, no lock is taken.
 */
export async function migrate(options: {
  readonly url: string;
  readonly log?: (message: string) => void;
}): Promise<readonly string[]> {
  const log = options.log ?? (() => undefined);
  if (await isUpToDate(options.url)) return [];
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await migrateOnce(options.url, log);
    } catch (error) {
      if (!waited.has((error as { code?: unknown }).code) || attempt === attempts) throw error;
      log("waiting for another migration or a long transaction");
      await delay(lockTimeoutMs * Math.random());
    }
  }
}

/** As at most starts: what applies migrations takes longer to load than all else that an instance does to begin. */
async function isUpToDate(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5000, query_timeout: 5000 });
  // Where the connection breaks, the query under way says so.
  client.on("error", () => undefined);
  await client.connect();
  try {
    const { rows } = await client.query<{ name: string }>("select name from keyfleet.migrations");
    const applied = new Set(rows.map(({ name }) => name));
    return (await readdir(migrationsDirectory)).every((file) => applied.has(basename(file, ".sql")));
  } catch (error) {
    if ((error as { code?: unknown }).code === undefinedTable) return false;
    throw error;
  } finally {
    client.end().catch(() => undefined);
  }
}

async function migrateOnce(url: string, log: (message: string) => void): Promise<readonly string[]> {
  const { runner } = await import("node-pg-migrate");
  const client = new pg.Client({
    connectionString: url,
    application_name: "keyfleet-migrate",
    connectionTimeoutMillis: 5000,
    lock_timeout: lockTimeoutMs,
  });
  // A connection that breaks says so as an event besides, which without a listener would end the process.
  client.on("error", () => undefined);
  try {
    await client.connect();
    const applied = await runner({
      dbClient: client,
      dir: migrationsDirectory,
      direction: "up",
      migrationsSchema: "keyfleet",
      createMigrationsSchema: true,
      migrationsTable: "migrations",
      // One for each migration, so that no lock is held for the sake of the next.
      singleTransaction: false,
      advisoryLockMode: "wait",
      log: (message: string) => log(message),
    });
    return applied.map((migration) => migration.name);
  } finally {
    client.end().catch(() => undefined);
  }
}
