/**
 * `npm run build`: compiles `src` into `dist`. Each file is put there whole, so that two builds at once, as two first
 * starts in one folder make, are no danger to each other: the compiler itself would empty and rewrite what the other
 * start is loading. What is up to date stays; what has no source any more goes, and so does what a killed build left.
 */

import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";

const folder = "dist";
/** Beside `dist` and as deep, for what the compiler remembers of a build names files by relative paths. */
const draft = `${folder}-${process.pid}`;
const memory = ".tsbuildinfo";

for (const name of readdirSync(".")) {
  const builder = /^dist-(\d+)$/.exec(name)?.[1];
  if (builder && !isAnother(Number(builder))) rmSync(name, { recursive: true, force: true });
}
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
  compiled.sort((one, other) => Number(one === memory) - Number(other === memory));
  for (const name of compiled) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    renameSync(join(draft, name), join(folder, name));
  }
  for (const name of readdirSync(folder, { recursive: true })) {
    const source = join("src", name.replace(/(\.d\.ts|\.js)$/, ".ts"));
    if (name !== memory && !existsSync(source)) rmSync(join(folder, name), { recursive: true, force: true });
  }
  process.exitCode = status ?? 1;
} finally {
  rmSync(draft, { recursive: true, force: true });
}

/** Whether this is a process that runs, other than this one: a number is used again. */
function isAnother(pid) {
  try {
    return pid !== process.pid && process.kill(pid, 0);
  } catch ({ code }) {
    return code !== "ESRCH";
  }
}
