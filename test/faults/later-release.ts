/** This program with one migration more: the release that comes after it. */

import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** Of each kind that there has been: columns and an index on the tables that everything goes through, a trigger anew. */
export const additions = `
  drop index keyfleet.sessions_by_end;
  create index sessions_by_end on keyfleet.sessions (coalesce(ended_at, expires_at), id);
  alter table keyfleet.sessions add column later text;
  alter table keyfleet.issued_tokens add column later text;
  alter table keyfleet.instances add column later text not null default 'later';
  drop trigger directory_grew on keyfleet.signing_keys;
  create trigger directory_grew after insert on keyfleet.signing_keys
    referencing new table as changed for each statement execute function keyfleet.directory_changed();
  alter table keyfleet.signing_keys add column later text;`;

export interface LaterRelease {
  readonly migration: string;
  /** Its `main.js`. */
  readonly program: string;
  remove(): void;
}

const project = fileURLToPath(new URL("../../", import.meta.url));

export function buildLaterRelease(sql: string): LaterRelease {
  const folder = mkdtempSync(path.join(tmpdir(), "keyfleet-later-"));
  for (const name of ["dist", "migrations", "data", "package.json"])
    cpSync(path.join(project, name), path.join(folder, name), { recursive: true });
  symlinkSync(path.join(project, "node_modules"), path.join(folder, "node_modules"));
  const migration = "999999_later";
  writeFileSync(path.join(folder, "migrations", `${migration}.sql`), `-- Up Migration\n\n${sql}\n`);
  return {
    migration,
    program: path.join(folder, "dist", "main.js"),
    remove: () => rmSync(folder, { recursive: true }),
  };
}
