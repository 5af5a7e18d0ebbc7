/** Starts one PostgreSQL for all test files, and makes the migrated template that each of them copies. */

import { chmod, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import pg from "pg";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/postgres/embedded.ts";
import { migrate } from "../../src/postgres/migrate.ts";
import globalTeardown from "./global-teardown.ts";

declare global {
  /** How global-teardown finds it: jest gives the two files no other way to share a value. */
  var testServer: { readonly directory: string; readonly postgres: EmbeddedPostgres | undefined } | undefined;
}

/** Nothing here has to survive a crash. */
const settings = {
  fsync: "off",
  synchronous_commit: "off",
  full_page_writes: "off",
  autovacuum: "off",
  max_connections: "300",
  max_wal_size: "4GB",
  checkpoint_timeout: "1h",
};

export default async function globalSetup(): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), "keyfleet-test-"));
  globalThis.testServer = { directory, postgres: undefined };
  try {
    // So that, where root runs the tests, the user who runs PostgreSQL can enter.
    await chmod(directory, 0o711);
    const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    const postgres = await startEmbeddedPostgres({ directory, environment: process.env, flags });
    globalThis.testServer = { directory, postgres };
    await createTemplate(postgres.url);
    process.env["TEST_DATABASE_URL"] = postgres.url;
  } catch (error) {
    await globalTeardown();
    throw error;
  }
}

async function createTemplate(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query("create database template_keyfleet");
  const template = new URL(url);
  template.pathname = "template_keyfleet";
  await migrate({ url: template.href });
  // A database with open connections cannot be copied, so from here on nobody gets one, by mistake or otherwise.
  await client.query("alter database template_keyfleet allow_connections false");
  await client.end();
}
