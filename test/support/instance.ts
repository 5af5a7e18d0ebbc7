/** Real instances: processes of the built program, each told to pick its own ports. */

import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import { secureHeapFlags } from "../../src/keys/secure-heap.ts";
import { collectOutput } from "./collect-output.ts";

export const mainPath = fileURLToPath(new URL("../../dist/main.js", import.meta.url));
export const testSecret = randomBytes(32).toString("base64url");

/** What no instance of a test can do without; all else is as by default. */
export const neededSettings = {
  NODE_ENV: "test",
  HOST: "127.0.0.1",
  PORT: "0",
  METRICS_PORT: "0",
  FLEET_SECRET: testSecret,
} as const;

/** Fast enough for tests: periods, delays and hashes as short as they may be. */
export const fastSettings = {
  ...neededSettings,
  BCRYPT_COST: "4",
  HASH_WORKERS: "1",
  FLEET_SYNC_INTERVAL: "100ms",
  KEY_PROPAGATION_DELAY: "0s",
  SHUTDOWN_DRAIN: "0s",
} as const;

export type Settings = Readonly<Record<string, string>>;

export interface TestInstance {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  readonly metricsUrl: string;
  readonly issuer: string;
  readonly instanceId: string;
  readonly process: ChildProcess;
  /** Everything it wrote to stdout and stderr so far. */
  output(): string;
  /** Sends the signal and waits for the end; resolves to the exit code, null where the signal killed it. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

export interface StartOptions {
  readonly databaseUrl: string;
  readonly settings?: Settings;
  /** Which `settings` are added to: the fast ones, where it is not given. */
  readonly base?: Settings;
  /** Given to Node before the program, such as `--import`. */
  readonly nodeFlags?: readonly string[];
  /** The built program, where it is another one than this project's. */
  readonly program?: string;
  /** `false`: resolves as soon as it listens. */
  readonly untilReady?: boolean;
}

/**
 * Resolves when the instance can issue tokens, and signs them itself: until its key has settled it borrows. Not so where
 * MAX_SIGNERS may leave it without a key. Rejects, with its output, where it ends before.
 */
export async function startInstance(options: StartOptions): Promise<TestInstance> {
  const { databaseUrl, settings = {}, base = fastSettings, nodeFlags = [] } = options;
  const { program = mainPath, untilReady = true } = options;
  const child = spawn(process.execPath, [...secureHeapFlags, ...nodeFlags, program, "serve", "--no-banner"], {
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    env: { PATH: process.env["PATH"], ...base, DATABASE_URL: databaseUrl, ...settings },
  });
  const output = collectOutput(child.stdout, child.stderr);
  const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const told = new Map<string, Record<string, unknown>>();
  await new Promise<void>((resolve, reject) => {
    child.on("message", (message: Record<string, unknown>) => {
      told.set(String(message["type"]), message);
      if (message["type"] === (untilReady ? "ready" : "listening")) resolve();
    });
    void exited.then((code) => reject(new Error(`the instance ended with ${code}:\n${output()}`)));
  });
  const listening = told.get("listening") ?? {};
  const instance: TestInstance = {
    url: `http://127.0.0.1:${listening["port"]}`,
    metricsUrl: `http://127.0.0.1:${listening["metricsPort"]}/metrics`,
    issuer: String(listening["issuer"]),
    instanceId: String(told.get("ready")?.["instanceId"]),
    process: child,
    output,
    stop(signal = "SIGTERM") {
      child.kill(signal);
      return exited;
    },
  };
  if (untilReady && settings["MAX_SIGNERS"] === undefined) await untilItSigns(instance);
  return instance;
}

/** Also through a moment in which it does not listen. Asks seldom: rendering metrics costs milliseconds. */
export async function untilItSigns(instance: TestInstance): Promise<void> {
  const signs = () => readMetric(instance, "keyfleet_signer").catch(() => 0);
  while ((await signs()) !== 1) await new Promise((resolve) => setTimeout(resolve, 75));
}

/**
 * Values of `/metrics`, such as `keyfleet_logins_total{outcome="success"}`; 0 of labels that have not been counted yet.
 * Throws where there is no metric of that name: an expected 0 would be read of it whatever happens.
 */
export async function readMetrics(instance: TestInstance, names: readonly string[]): Promise<number[]> {
  const text = await (await fetch(instance.metricsUrl)).text();
  return names.map((name) => {
    const [metric = ""] = name.split(/_(?:count|sum)\b|\{/);
    if (!text.includes(`\n# TYPE ${metric} `)) throw new Error(`there is no metric ${metric}`);
    const line = text.split("\n").find((candidate) => candidate.startsWith(`${name} `));
    return line === undefined ? 0 : Number(line.slice(name.length + 1));
  });
}

export async function readMetric(instance: TestInstance, name: string): Promise<number> {
  const [value = Number.NaN] = await readMetrics(instance, [name]);
  return value;
}
