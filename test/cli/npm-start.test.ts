import { type ChildProcess, execFile, spawn } from "node:child_process";
import {
  chmodSync,
  closeSync,
  cpSync,
  existsSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { eventually, login } from "../support/accounts.ts";
import { runCommand } from "./run-command.ts";

const projectRoot = fileURLToPath(new URL("../../", import.meta.url));
const projectFiles = [
  "src",
  "migrations",
  "data",
  "package.json",
  "tsconfig.json",
  "tsconfig.build.json",
  "build.js",
];

let folder: string;
const started: Started[] = [];

/** The first starts ever, two at once. */
let first: {
  readonly starts: readonly Started[];
  readonly urls: readonly string[];
  /** Where the one that tells the password says to log in. */
  readonly loginUrl: string;
  readonly password: string;
};

/** A clone of its own: `npm start` builds there, and keeps its database there. */
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "keyfleet-start-"));
  chmodSync(folder, 0o755);
  for (const name of projectFiles) cpSync(join(projectRoot, name), join(folder, name), { recursive: true });
  symlinkSync(join(projectRoot, "node_modules"), join(folder, "node_modules"));
  const starts = [npmStart(), npmStart()];
  const urls = (await Promise.all(starts.map(untilBanner))).flat();
  const output = starts.map((start) => start.output()).join("");
  const [, loginUrl = "", password = ""] =
    /curl -s (\S+)\/login -d username=demo -d password=(?!PASSWORD)(\S+)/.exec(output) ?? [];
  first = { starts, urls, loginUrl, password };
}, 120_000);
afterAll(async () => {
  for (const { child, exited } of started.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await exited;
  }
  rmSync(folder, { recursive: true });
});

interface Started {
  readonly child: ChildProcess;
  readonly exited: Promise<number | null>;
  output(): string;
}

function npmStart(...argv: string[]): Started {
  const child = spawn("npm", ["start", ...(argv.length > 0 ? ["--", ...argv] : [])], {
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      PATH: process.env["PATH"],
      HOME: process.env["HOME"],
      PORT: "0",
      METRICS_PORT: "0",
      SHUTDOWN_DRAIN: "0s",
    },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (text: Buffer) => {
      output += text.toString();
    });
  }
  const exited = new Promise<number | null>((resolve) => child.once("close", resolve));
  const result = { child, exited, output: () => output };
  started.push(result);
  return result;
}

async function untilBanner(start: Started): Promise<string[]> {
  await eventually(() => start.output().includes("log in"), 60_000).catch((error: Error) => {
    throw new Error(`${error.message}: it said\n${start.output()}`);
  });
  return (
    start
      .output()
      .match(/listening on +(.*)/)?.[1]
      ?.split(/ +/) ?? []
  );
}

function databasePid(): number {
  const idHome = join(folder, ".keyfleet");
  const lock = ["postgres-18/postmaster.pid"].map((path) => join(idHome, path)).find(existsSync);
  return lock === undefined ? 0 : Number(readFileSync(lock, "utf8").split("\n")[0]);
}

function isAlive(pid: number): boolean {
  try {
    return pid > 0 && process.kill(pid, 0);
  } catch {
    return false;
  }
}

async function kidsAt(url: string): Promise<string[]> {
  const response = await fetch(`${url}/.well-known/jwks.json`);
  return ((await response.json()) as { keys: { kid: string }[] }).keys.map(({ kid }) => kid);
}

test("two first starts in one folder share its database, and one of them tells how to log in", async () => {
  const [kids = [], otherKids = []] = await Promise.all(first.urls.map(kidsAt));
  expect(kids.filter((kid) => otherKids.includes(kid)).length).toBeGreaterThanOrEqual(2);

  const output = first.starts.map((start) => start.output()).join("");
  expect(output.match(/told this once/g)).toHaveLength(1);
  await login(first.loginUrl, { username: "demo", password: first.password });
  expect(statSync(join(folder, ".keyfleet/fleet-secret")).mode & 0o777).toBe(0o600);
  expect(output).not.toContain(readFileSync(join(folder, ".keyfleet/fleet-secret"), "utf8"));

  const listed = await runCommand(["accounts", "list", "--json"], { folder, settings: { FLEET_SECRET: "" } });
  expect(JSON.parse(listed.stdout)).toEqual([expect.objectContaining({ username: "demo" })]);
}, 60_000);

test("a build puts files in place whole: what another start is loading is not emptied and written again", async () => {
  const built = join(folder, "dist/main.js");
  const loading = openSync(built, "r");
  const text = readFileSync(built, "utf8");
  try {
    rmSync(join(folder, "dist/.tsbuildinfo"));
    // Of a source that was deleted, and of a build that was killed: no process has so high a number.
    writeFileSync(join(folder, "dist/cli/deleted.d.ts"), "");
    mkdirSync(join(folder, "dist-4194305"));
    await promisify(execFile)("npm", ["run", "build"], { cwd: folder });
    expect(statSync(built).ino).not.toBe(fstatSync(loading).ino);
    expect([readFileSync(loading, "utf8"), readFileSync(built, "utf8")]).toEqual([text, text]);
    expect(readdirSync(folder).filter((name) => name.startsWith("dist"))).toEqual(["dist"]);
    expect(existsSync(join(folder, "dist/cli/deleted.d.ts"))).toBe(false);
  } finally {
    closeSync(loading);
  }
});

test("npm start goes on after a kill -9, ready within 5 s of its start; --instances 3 joins it with keys of its own, and both end at SIGTERM", async () => {
  const firstDatabase = databasePid();
  for (const { child } of first.starts) child.kill("SIGKILL");
  await Promise.all(first.starts.map(({ exited }) => exited));
  await eventually(() => !isAlive(firstDatabase));

  const startedAtMs = performance.now();
  const second = npmStart();
  const [secondUrl = ""] = await untilBanner(second);
  // Building, and the database, included.
  expect(performance.now() - startedAtMs).toBeLessThan(5000);
  expect(second.output()).not.toContain(first.password);
  await login(secondUrl, { username: "demo", password: first.password });
  const secondDatabase = databasePid();
  expect(isAlive(secondDatabase)).toBe(true);
  const ofOne = await kidsAt(secondUrl);

  const fleet = npmStart("--instances", "3");
  const urls = await untilBanner(fleet);
  expect(urls).toHaveLength(3);
  for (const url of urls) {
    const added = (await kidsAt(url)).filter((kid) => !ofOne.includes(kid));
    expect(added.length).toBeGreaterThanOrEqual(6);
  }
  for (const { child } of [second, fleet]) child.kill("SIGTERM");
  expect(await Promise.all([second.exited, fleet.exited])).toEqual([0, 0]);
  expect(second.output()).toContain("stopped");
  expect(isAlive(secondDatabase)).toBe(false);
}, 120_000);
