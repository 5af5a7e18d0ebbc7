/** What a database and a process leave behind in rows and files, piece by piece. */

import { randomUUID } from "node:crypto";
import { readdir, readFile, rm, stat } from "node:fs/promises";
import path from "node:path";
import type pg from "pg";
import { eventually } from "../support/accounts.ts";

export interface StoredPiece {
  readonly place: string;
  readonly bytes: Buffer;
}

/** Every row of every table in every schema, catalogs included, by COPY. What pg_dump writes: `dump.faults.ts`. */
export async function* databaseRows(pool: pg.Pool): AsyncGenerator<StoredPiece> {
  const { rows: tables } = await pool.query<{ name: string }>(
    `select format('%I.%I', n.nspname, c.relname) as name
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'm') and n.nspname !~ '^pg_(toast|temp)'`,
  );
  const file = path.join(await dataDirectory(pool), `copied-${randomUUID()}`);
  for (const { name } of tables) {
    await pool.query(`copy (select * from ${name}) to '${file}'`);
    yield { place: `table ${name}`, bytes: await readFile(file) };
  }
  await rm(file);
}

async function dataDirectory(pool: pg.Pool): Promise<string> {
  const { rows } = await pool.query<{ data_directory: string }>("show data_directory");
  return rows[0]?.data_directory ?? "";
}

/** The database's own files, and of those that all databases share what was written since, such as `pg_wal`. */
export async function* databaseFiles(pool: pg.Pool, sinceMs: number): AsyncGenerator<StoredPiece> {
  await pool.query("checkpoint");
  const { rows: own } = await pool.query<{ folder: string }>(
    "select 'base/' || oid as folder from pg_database where datname = current_database()",
  );
  const root = await dataDirectory(pool);
  for (const place of await readdir(root, { recursive: true })) {
    const isOwn = path.dirname(place) === own[0]?.folder;
    if (place.startsWith("base/") && !isOwn) continue;
    const file = path.join(root, place);
    // A file of the server may be gone by now.
    const status = await stat(file).catch(() => undefined);
    if (status?.isFile() !== true || (status.mtimeMs < sinceMs && !isOwn)) continue;
    const bytes = await readFile(file).catch(() => undefined);
    if (bytes !== undefined) yield { place, bytes };
  }
}

export interface Diagnostics {
  /** Makes Node write a heap snapshot on SIGUSR2 and a report on SIGWINCH: no code of ours runs in the process. */
  readonly nodeFlags: readonly string[];
  heapSnapshot(processId: number): Promise<StoredPiece>;
  report(processId: number): Promise<StoredPiece>;
}

/** `folder` is empty, and one process's. */
export function diagnosticsIn(folder: string): Diagnostics {
  async function written(name: RegExp, isComplete: (text: Buffer) => boolean): Promise<StoredPiece> {
    let bytes = Buffer.alloc(0);
    let place = "";
    await eventually(
      async () => {
        place = (await readdir(folder)).find((file) => name.test(file)) ?? "";
        if (place !== "") bytes = await readFile(path.join(folder, place));
        return isComplete(bytes);
      },
      30_000,
      100,
    );
    return { place, bytes };
  }

  return {
    nodeFlags: [
      "--heapsnapshot-signal=SIGUSR2",
      `--diagnostic-dir=${folder}`,
      "--report-on-signal",
      "--report-signal=SIGWINCH",
      `--report-directory=${folder}`,
    ],
    heapSnapshot(processId) {
      process.kill(processId, "SIGUSR2");
      return written(/\.heapsnapshot$/, (bytes) => bytes.subarray(-3).toString() === '"]}');
    },
    report(processId) {
      process.kill(processId, "SIGWINCH");
      return written(/^report\..*\.json$/, (bytes) => bytes.subarray(-3).toString() === "\n}\n");
    },
  };
}
