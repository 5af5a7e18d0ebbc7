import { type ChildProcess, spawn } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { eventually, login } from "../support/accounts.ts";
import { runCommand } from "./run-command.ts";

const projectRoot = fileURLToPath(new URL("../../", import.meta.url));
const projectFiles = ["src", "migrations", "data", "package.json", "tsconfig.json", "tsconfig.build.json"];

let folder: string;
const started: Started[] = [];

/** A clone of its own: `npm start` builds there, and keeps its database there. */
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "keyfleet-start-"));
  chmodSync(folder, 0o755);
  for (const name of projectFiles) cpSync(join(projectRoot, name), join(folder, name), { recursive: true });
  symlinkSync(join(projectRoot, "node_modules"), join(folder, "node_modules"));
});
afterEach(async () => {
  for (const { child, exited } of started.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await exited;
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

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
  await eventually(() => start.output().includes("log in"), 60_000);
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

test("npm start tells how to log in, goes on after a kill -9, ready within 5 s of its start, and ends at SIGTERM", async () => {
  const first = npmStart();
  await untilBanner(first);
  const curl = /curl -s (\S+)\/login -d username=demo -d password=(\S+)/.exec(first.output());
  const [, url = "", password = ""] = curl ?? [];
  await login(url, { username: "demo", password });
  expect(statSync(join(folder, ".keyfleet/fleet-secret")).mode & 0o777).toBe(0o600);
  expect(first.output()).not.toContain(readFileSync(join(folder, ".keyfleet/fleet-secret"), "utf8"));

  const listed = await runCommand(["accounts", "list", "--json"], { folder, settings: { FLEET_SECRET: "" } });
  expect(JSON.parse(listed.stdout)).toEqual([expect.objectContaining({ username: "demo" })]);

  const firstDatabase = databasePid();
  first.child.kill("SIGKILL");
  await first.exited;
  await eventually(() => !isAlive(firstDatabase));

  const startedAtMs = performance.now();
  const second = npmStart();
  const [secondUrl = ""] = await untilBanner(second);
  // Building, and the database, included.
  expect(performance.now() - startedAtMs).toBeLessThan(5000);
  expect(second.output()).not.toContain(password);
  await login(secondUrl, { username: "demo", password });
  const secondDatabase = databasePid();
  expect(isAlive(secondDatabase)).toBe(true);
  second.child.kill("SIGTERM");
  expect(await second.exited).toBe(0);
  expect(second.output()).toContain("stopped");
  expect(isAlive(secondDatabase)).toBe(false);
}, 120_000);

test("npm start -- --instances 3 serves one fleet from three processes with keys of their own", async () => {
  const fleet = npmStart("--instances", "3");
  const urls = await untilBanner(fleet);
  expect(urls).toHaveLength(3);
  const sets = await Promise.all(
    urls.map(async (url) => {
      const response = await fetch(`${url}/.well-known/jwks.json`);
      return (await response.json()) as { keys: unknown[] };
    }),
  );
  for (const { keys } of sets) expect(keys.length).toBeGreaterThanOrEqual(6);
  fleet.child.kill("SIGTERM");
  expect(await fleet.exited).toBe(0);
}, 60_000);

test("two first starts in one folder share its database", async () => {
  for (const name of ["dist", ".keyfleet"]) rmSync(join(folder, name), { recursive: true });
  const [one, other] = [npmStart(), npmStart()];
  const urls = [...(await untilBanner(one)), ...(await untilBanner(other))];
  const kids = await Promise.all(
    urls.map(async (url) => {
      const response = await fetch(`${url}/.well-known/jwks.json`);
      return ((await response.json()) as { keys: { kid: string }[] }).keys.map(({ kid }) => kid);
    }),
  );
  const [first = [], second = []] = kids;
  expect(first.filter((kid) => second.includes(kid)).length).toBeGreaterThanOrEqual(2);
  for (const start of [one, other]) start.child.kill("SIGTERM");
  expect(await Promise.all([one.exited, other.exited])).toEqual([0, 0]);
}, 60_000);
