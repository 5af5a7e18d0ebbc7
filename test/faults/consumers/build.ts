/** Builds what is in a folder here with its language's own tools, once: it is kept in the user's cache, by its content. */

import { execFile, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

export interface Built {
  /** What was built. */
  readonly directory: string;
  /** What it was built from. */
  readonly source: string;
}

export interface Recipe {
  readonly folder: string;
  /** Each prints the version of a tool that is needed. */
  readonly tools: readonly (readonly string[])[];
  /** Commands that leave in `directory` what runs. */
  commands(built: Built, files: readonly string[]): readonly Command[];
}

export interface Command {
  /** A program and its arguments. */
  readonly argv: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

const run = promisify(execFile);
const cacheRoot = path.join(
  process.env["XDG_CACHE_HOME"] ?? path.join(homedir(), ".cache"),
  "keyfleet-consumers",
);
/** A first build of everything on a busy machine. */
const buildTimeoutMs = 300_000;

/** Why it cannot be built here, or undefined. */
export function missingTool({ tools }: Recipe): string | undefined {
  const missing = tools.find(([tool = "", ...flags]) => spawnSync(tool, flags).status !== 0);
  return missing && `${missing[0]} is not on this machine`;
}

/** Throws where a command fails, with the end of what it said. */
export async function build(recipe: Recipe): Promise<Built> {
  const source = fileURLToPath(new URL(`${recipe.folder}/`, import.meta.url));
  const entries = await readdir(source, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(source, path.join(entry.parentPath, entry.name)))
    .sort();
  const directory = path.join(cacheRoot, `${recipe.folder}-${await fingerprint(recipe, source, files)}`);
  const isThere = await readdir(directory).catch(() => undefined);
  if (isThere !== undefined) return { directory, source };
  // Whoever is first puts it in its place as a whole.
  const unfinished = `${directory}.${process.pid}`;
  await mkdir(unfinished, { recursive: true });
  try {
    for (const command of recipe.commands({ directory: unfinished, source }, files))
      await execute(command, source);
    await rename(unfinished, directory);
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true });
    throw error;
  }
  return { directory, source };
}

/** Of the sources and of the tools, which are told apart by what they print of their version. */
async function fingerprint(recipe: Recipe, source: string, files: readonly string[]): Promise<string> {
  const hash = createHash("sha256");
  for (const file of files) hash.update(`${file}\n`).update(await readFile(path.join(source, file)));
  for (const [tool = "", ...flags] of recipe.tools) {
    const { stdout, stderr } = spawnSync(tool, flags);
    hash.update(stdout).update(stderr);
  }
  return hash.digest("hex").slice(0, 16);
}

async function execute({ argv: [tool = "", ...flags], environment }: Command, cwd: string): Promise<void> {
  const env = { ...process.env, ...environment };
  await run(tool, flags, { cwd, env, timeout: buildTimeoutMs }).catch(
    (error: Error & { stderr?: string }) => {
      const said = (error.stderr ?? "").trim().split("\n").at(-1);
      throw new Error(`${tool} failed: ${said || error.message}`);
    },
  );
}
