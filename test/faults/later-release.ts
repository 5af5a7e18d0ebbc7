/** This program with one migration more: the release that comes after it. */

import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

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
