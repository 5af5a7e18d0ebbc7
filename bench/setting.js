/** What every benchmark runs against: a real PostgreSQL in a temporary folder, and one instance of the built product. */

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { secureHeapFlags } from "../dist/keys/secure-heap.js";
import { startEmbeddedPostgres } from "../dist/postgres/embedded.js";

const mainPath = fileURLToPath(new URL("../dist/main.js", import.meta.url));
export const account = { username: "bench", password: "a password for benchmarks" };

/** `settings` are environment variables; logs are written as in production, and thrown away. */
export async function withInstance(settings, work) {
  await withInstances(1, settings, ([url]) => work(url));
}

/** Started one after the other, on one database; `work` is given their urls. */
export async function withInstances(count, settings, work) {
  const directory = mkdtempSync(join(tmpdir(), "keyfleet-bench-"));
  chmodSync(directory, 0o711);
  const postgres = await startEmbeddedPostgres({ directory, environment: process.env });
  const environment = {
    PATH: process.env.PATH,
    DATABASE_URL: postgres.url,
    FLEET_SECRET: randomBytes(32).toString("base64url"),
    PORT: "0",
    METRICS_PORT: "0",
    SHUTDOWN_DRAIN: "0s",
    ...settings,
  };
  await run(["migrate"], environment);
  await run(["accounts", "add", account.username, "--scope", "orders:read"], environment, account.password);
  const instances = [];
  try {
    for (let started = 0; started < count; started += 1) instances.push(await start(environment));
    await work(instances.map(({ url }) => url));
  } finally {
    for (const { child } of instances) {
      child.kill();
      await new Promise((resolve) => child.once("exit", resolve));
    }
    await postgres.stop();
    rmSync(directory, { recursive: true });
  }
}

async function start(env) {
  const child = spawn(process.execPath, [...secureHeapFlags, mainPath, "serve", "--no-banner"], {
    env,
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  const ready = told(child, "ready");
  const { port } = await told(child, "listening");
  await ready;
  return { child, url: `http://127.0.0.1:${port}` };
}

function told(child, type) {
  return new Promise((resolve) => {
    child.on("message", (message) => {
      if (message.type === type) resolve(message);
    });
  });
}

function run(argv, env, stdin = "") {
  const child = spawn(process.execPath, [mainPath, ...argv], { env, stdio: ["pipe", "ignore", "inherit"] });
  child.stdin.end(stdin);
  return new Promise((resolve, reject) => {
    child.once("exit", (code) => (code === 0 ? resolve() : reject(new Error(`${argv.join(" ")}: ${code}`))));
  });
}
