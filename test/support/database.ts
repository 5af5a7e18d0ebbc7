/** Databases of a test's own, on the server that global-setup started. */

import { randomBytes } from "node:crypto";
import pg from "pg";

export interface TestDatabase {
  readonly url: string;
  readonly pool: pg.Pool;
  /** Has it as a fresh one is, but for what a test did to the schema: a tenth of what a fresh one costs. */
  clear(): Promise<void>;
  drop(): Promise<void>;
}

/** With the schema, as a copy of the migrated template. */
export function freshDatabase(): Promise<TestDatabase> {
  // A copy by files takes 20 ms, one through the write-ahead log 33.
  return createDatabase("template template_keyfleet strategy file_copy");
}

/** With nothing in it. */
export function emptyDatabase(): Promise<TestDatabase> {
  return createDatabase("template template0 strategy file_copy");
}

/** Commits what `work` did when it resolves, and rolls it back when it rejects. */
export async function inTransaction<Result>(
  pool: pg.Pool,
  work: (client: pg.PoolClient) => Promise<Result>,
): Promise<Result> {
  const client = await pool.connect();
  try {
    await client.query("begin");
    const result = await work(client);
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    client.release();
  }
}

async function createDatabase(source: string): Promise<TestDatabase> {
  const name = `test_${process.env["JEST_WORKER_ID"] ?? "0"}_${randomBytes(6).toString("hex")}`;
  await administer(`create database ${name} ${source}`);
  const url = new URL(administrationUrl());
  url.pathname = name;
  const pool = new pg.Pool({ connectionString: url.href, max: 5 });
  // Connections that drop() cuts while they are idle.
  pool.on("error", () => undefined);
  return {
    url: url.href,
    pool,
    async clear() {
      const { rows } = await pool.query<{ names: string }>(
        `select string_agg(format('%I.%I', schemaname, tablename), ', ') as names from pg_catalog.pg_tables
         where schemaname = 'keyfleet' and tablename <> 'migrations'`,
      );
      await inTransaction(pool, async (client) => {
        // The triggers would keep the audit, and keys that have not ended.
        await client.query("set local session_replication_role = replica");
        await client.query(`truncate ${rows[0]?.names} restart identity`);
        await client.query("insert into keyfleet.fleet_state default values");
      });
    },
    async drop() {
      await pool.end();
      await administer(`drop database ${name} with (force)`);
    },
  };
}

async function administer(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: administrationUrl() });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

function administrationUrl(): string {
  const url = process.env["TEST_DATABASE_URL"];
  if (!url) throw new Error("TEST_DATABASE_URL is not set: test/support/global-setup.ts sets it for jest");
  return url;
}
