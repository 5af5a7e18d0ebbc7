/** Brings the schema up to date: forward only, in one transaction, one migrator at a time. */

import { readdir } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { isSchemaMissing } from "./pool.ts";

const migrationsDirectory = fileURLToPath(new URL("../../migrations", import.meta.url));
const connection = { application_name: "keyfleet-migrate", connectionTimeoutMillis: 5000 };
const lockNotAvailable = "55P03";
/** A waiting DDL statement blocks everyone behind it, so it gives up soon, and tries again. */
const lockTimeoutMs = 2000;
const attempts = 30;

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
      if ((error as { code?: unknown }).code !== lockNotAvailable || attempt === attempts) throw error;
      log("waiting for another migration or a long transaction");
      await delay(lockTimeoutMs * Math.random());
    }
  }
}

async function isUpToDate(url: string): Promise<boolean> {
  const files = (await readdir(migrationsDirectory)).filter((file) => file.endsWith(".sql"));
  const client = new pg.Client({ ...connection, connectionString: url, query_timeout: 5000 });
  client.on("error", () => undefined);
  try {
    await client.connect();
    const { rows } = await client.query<{ name: string }>("select name from keyfleet.migrations");
    const applied = new Set(rows.map(({ name }) => `${name}.sql`));
    return files.every((file) => applied.has(file));
  } catch (error) {
    if (isSchemaMissing(error)) return false;
    throw error;
  } finally {
    client.end().catch(() => undefined);
  }
}

async function migrateOnce(url: string, log: (message: string) => void): Promise<readonly string[]> {
  // Loaded only here: a command that migrates nothing starts sooner without.
  const { runner } = await import("node-pg-migrate");
  const applied = await runner({
    databaseUrl: {
      ...connection,
      connectionString: url,
      lock_timeout: lockTimeoutMs,
    },
    dir: migrationsDirectory,
    direction: "up",
    migrationsSchema: "keyfleet",
    createMigrationsSchema: true,
    migrationsTable: "migrations",
    singleTransaction: true,
    advisoryLockMode: "wait",
    log: (message: string) => log(message),
  });
  return applied.map((migration) => migration.name);
}
