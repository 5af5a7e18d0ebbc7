/** Brings the schema up to date: forward only, in one transaction, one migrator at a time. */

import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";

const migrationsDirectory = fileURLToPath(new URL("../../migrations", import.meta.url));
const lockNotAvailable = "55P03";
/** A waiting DDL statement blocks everyone behind it, so it gives up soon, and tries again. */
const lockTimeoutMs = 2000;
const attempts = 30;

/**
 * Applies what is missing and returns its names. Safe while instances run and with several migrators at once: they
 * wait for each other under an advisory lock of the session, so the url must not go through a transaction pooler.
 */
export async function migrate(options: {
  readonly url: string;
  readonly log?: (message: string) => void;
}): Promise<readonly string[]> {
  const log = options.log ?? (() => undefined);
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

async function migrateOnce(url: string, log: (message: string) => void): Promise<readonly string[]> {
  // Loaded only here: a command that migrates nothing starts sooner without.
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
      singleTransaction: true,
      advisoryLockMode: "wait",
      log: (message: string) => log(message),
    });
    return applied.map((migration) => migration.name);
  } finally {
    client.end().catch(() => undefined);
  }
}
