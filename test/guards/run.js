/**
 * `npm run test:guards`: `guards.json` names, for every invariant, a protection and the test that fails once it is taken
 * out. Takes each out, in a copy of the project where all these tests pass, and sees its test fail. Ends with an error
 * where one does not, or where a line is no longer there.
 */

import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const guards = JSON.parse(readFileSync(new URL("guards.json", import.meta.url), "utf8"));
const project = fileURLToPath(new URL("../../", import.meta.url));
const copied = ["src", "test", "migrations", "data", "docs", "deploy", "README.md", "package.json"];
const configuration = ["jest.config.js", "tsconfig.json", "tsconfig.build.json", "build.js"];
const [only] = process.argv.slice(2);
const chosen = guards.filter(({ invariant }) => !only || invariant === only);

/** What failed; empty where everything passed; throws where the test was not run. */
function failuresOf(folder, test) {
  const outputFile = join(folder, "results.json");
  rmSync(outputFile, { force: true });
  const run = (command, ...argv) =>
    spawnSync(command, argv, { cwd: folder, encoding: "utf8", stdio: ["ignore", "ignore", "pipe"] });
  // What is left over of a protection may be unused: the compiler says so, and builds it.
  run("npm", "run", "build");
  const argv = ["--ignore-scripts", "--silent", "--", test, "--json", `--outputFile=${outputFile}`];
  const { stderr } = run("npm", "test", ...argv);
  let results;
  try {
    results = JSON.parse(readFileSync(outputFile, "utf8"));
  } catch {
    throw new Error(`no test was run:\n${stderr}`);
  }
  if (results.numRuntimeErrorTestSuites > 0 || results.numTotalTests === results.numPendingTests)
    throw new Error(`${test} was not run:\n${stderr}`);
  return results.testResults.flatMap(({ assertionResults }) =>
    assertionResults.filter(({ status }) => status === "failed").map(({ fullName }) => fullName),
  );
}

const folder = mkdtempSync(join(tmpdir(), "keyfleet-guards-"));
let survivors = 0;
try {
  for (const name of [...copied, ...configuration])
    cpSync(join(project, name), join(folder, name), { recursive: true });
  symlinkSync(join(project, "node_modules"), join(folder, "node_modules"));
  for (const test of new Set(chosen.map(({ test }) => test))) {
    const [failure] = failuresOf(folder, test);
    if (failure !== undefined) throw new Error(`${test} fails with nothing taken out: "${failure}"`);
  }
  for (const { invariant, file, from, to, test } of chosen) {
    const path = join(folder, file);
    const text = readFileSync(path, "utf8");
    if (!text.includes(from)) throw new Error(`${file} has no ${JSON.stringify(from)}`);
    writeFileSync(
      path,
      text.replace(from, () => to),
    );
    const failures = failuresOf(folder, test);
    writeFileSync(path, text);
    survivors += failures.length === 0 ? 1 : 0;
    const seen =
      failures.length === 0 ? "NOT NOTICED" : `${failures.length} failed, such as "${failures[0]}"`;
    console.log(`${invariant} without "${from.split("\n").at(-1).trim()}" (${file})\n   ${test}: ${seen}`);
  }
} finally {
  rmSync(folder, { recursive: true });
}
process.exitCode = survivors === 0 ? 0 : 1;
