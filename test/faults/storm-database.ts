/** A PostgreSQL of the storm's own, which it may stop and crash. */

import { readFileSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import pg from "pg";
import { startEmbeddedPostgres } from "../../src/postgres/embedded.ts";
import { migrate } from "../../src/postgres/migrate.ts";
import { eventually } from "../support/accounts.ts";

export interface StormDatabase {
  /** Straight to the server, past every proxy. */
  readonly url: string;
  /** Asks again until it is answered. */
  query<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  /** `stop`: as an administrator does; `crash`: its processes end in the middle of what they do. Resolves when it answers again. */
  restart(how: "stop" | "crash"): Promise<void>;
  close(): Promise<void>;
}

/** Commits are in the operating system's hands when they are answered: a crash of the server loses none. */
const flags = ["fsync=off", "full_page_writes=off", "max_connections=300", "log_min_messages=fatal"].flatMap(
  (setting) => ["-c", setting],
);

const patienceMs = 60_000;

export async function startStormDatabase(): Promise<StormDatabase> {
  const directory = await mkdtemp(path.join(tmpdir(), "keyfleet-storm-"));
  // So that, where root runs the tests, the user who runs PostgreSQL can enter.
  await chmod(directory, 0o711);
  const postgres = await startEmbeddedPostgres({ directory, environment: process.env, flags });
  await migrate({ url: postgres.url });
  const pool = new pg.Pool({ connectionString: postgres.url, max: 4, connectionTimeoutMillis: 2000 });
  pool.on("error", () => undefined);

  async function query<Row extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []) {
    for (const deadlineMs = performance.now() + patienceMs; ; ) {
      try {
        return (await pool.query<Row>(text, [...values])).rows;
      } catch (error) {
        const isRefusal = /^(2[23]|42|P0)/.test(String((error as { code?: string }).code));
        if (isRefusal || performance.now() > deadlineMs) throw error;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  const serverPid = () =>
    Number.parseInt(readFileSync(path.join(postgres.dataDirectory, "postmaster.pid"), "utf8"), 10);

  return {
    url: postgres.url,
    query,
    async restart(how) {
      const pid = serverPid();
      process.kill(pid, how === "stop" ? "SIGINT" : "SIGQUIT");
      // It is started again by the part that watches over it.
      await eventually(() => {
        try {
          return serverPid() !== pid;
        } catch {
          return false;
        }
      }, patienceMs);
      await query("select 1");
    },
    async close() {
      await pool.end();
      await postgres.stop();
      await rm(path.dirname(postgres.dataDirectory), { recursive: true, force: true });
      await rm(directory, { recursive: true, force: true });
    },
  };
}
