/** Processes of their own that use the embedded PostgreSQL of a folder, so that tests can kill them. */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import pg from "pg";

export interface SystemUser {
  readonly uid: number;
  readonly gid: number;
}

export const isRoot = process.getuid?.() === 0;

/** The build: Node cannot run our sources as they are. */
export const builtModule = new URL("../../dist/postgres/embedded.js", import.meta.url);

/** Tells what happens, one JSON object a line; a line on stdin stops it. */
const script = `
const [module, directory, flags] = process.argv.slice(1);
const { startEmbeddedPostgres } = await import(module);
const tell = (event) => process.stdout.write(JSON.stringify(event) + "\\n");
process.on("SIGINT", () => tell({ signal: "SIGINT" }));
const log = (message) => tell({ log: message });
const server = await startEmbeddedPostgres({ directory, environment: process.env, flags: JSON.parse(flags), log });
const { url, port, dataDirectory } = server;
tell({ url, port, dataDirectory, owner: server.owner });
let owner = server.owner;
setInterval(() => { if (owner !== server.owner) { owner = server.owner; tell({ owner }); } }, 10);
process.stdin.once("data", async () => { await server.stop(); process.exit(0); });
`;

export interface Started {
  readonly url: string;
  readonly port: number;
  readonly dataDirectory: string;
  readonly owner: boolean;
}

export class ServerUser {
  /** What it told, in order. */
  readonly told: Record<string, unknown>[] = [];
  readonly pid: number;
  readonly exited: Promise<void>;
  #complaints = "";
  readonly #child: ChildProcess;

  constructor(directory: string, flags: readonly string[], user?: SystemUser) {
    const args = ["--input-type=module", "-e", script, builtModule.href, directory, JSON.stringify(flags)];
    this.#child = spawn(process.execPath, args, { cwd: "/", detached: true, ...user });
    this.pid = this.#child.pid ?? 0;
    this.exited = new Promise((resolve) => this.#child.once("exit", () => resolve()));
    this.#child.stderr?.on("data", (chunk) => {
      this.#complaints += chunk;
    });
    if (this.#child.stdout) {
      createInterface(this.#child.stdout).on("line", (line) => this.told.push(JSON.parse(line)));
    }
  }

  async started(): Promise<Started> {
    await until(() => this.told.some((event) => "url" in event) || this.#child.exitCode !== null, 15_000);
    const event = this.told.find((candidate) => "url" in candidate);
    if (!event) throw new Error(`did not start: ${this.#complaints}`);
    return event as unknown as Started;
  }

  async stop(): Promise<void> {
    this.#child.stdin?.write("stop\n");
    await this.exited;
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.exited;
  }
}

/** Waits for what is bound to come, and fails where it does not. */
export async function until(condition: () => boolean | Promise<boolean>, timeoutMs = 5000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The processes of a process group, which a server shares with the shells that guard it. */
export function processGroupOf(pid: number): readonly number[] {
  const group = processField(pid, "pgid");
  const lines = execFileSync("ps", ["-A", "-o", "pid=,pgid="], { encoding: "utf8" }).trim().split("\n");
  return lines
    .map((line) => line.trim().split(/\s+/))
    .flatMap(([id, its]) => (its === group ? [Number(id)] : []));
}

export function processField(pid: number, field: "pgid" | "uid" | "args"): string {
  return execFileSync("ps", ["-o", `${field}=`, "-p", String(pid)], { encoding: "utf8" }).trim();
}

export async function query(url: string, text: string): Promise<readonly Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2000 });
  client.on("error", () => undefined);
  try {
    await client.connect();
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}
