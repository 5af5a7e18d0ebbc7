/**
 * `npm run build`: compiles `src` into `dist`. Each file is put there whole, so that two builds at once, as two first
 * starts in one folder make, are no danger to each other: the compiler itself would empty and rewrite what the other
 * start is loading. What is up to date stays.
 */

import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";

const folder = "dist";
/** Beside `dist` and as deep, for what the compiler remembers of a build names files by relative paths. */
const draft = `${folder}-${process.pid}`;
const memory = ".tsbuildinfo";

mkdirSync(draft);
try {
  if (existsSync(join(folder, memory))) copyFileSync(join(folder, memory), join(draft, memory));
  const options = ["--outDir", draft, "--tsBuildInfoFile", join(draft, memory)];
  const compiler = join("node_modules", "typescript", "bin", "tsc");
  const argv = [compiler, "--project", "tsconfig.build.json", ...options];
  const { status, error } = spawnSync(process.execPath, argv, { stdio: "inherit" });
  if (error) throw error;
  const compiled = readdirSync(draft, { recursive: true }).filter((name) =>
    statSync(join(draft, name)).isFile(),
  );
  // The memory last: a build that ends before has not been.
  for (const name of [...compiled.filter((name) => name !== memory), memory]) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    renameSync(join(draft, name), join(folder, name));
  }
  process.exitCode = status ?? 1;
} finally {
  rmSync(draft, { recursive: true, force: true });
}
