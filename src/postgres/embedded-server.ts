/** Joins the server that runs on a cluster, or starts one: whoever comes first starts, everyone else joins. */

import { randomInt } from "node:crypto";
import { createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import type { Cluster } from "./embedded-folder.ts";
import { isAlive, isServerOf, readLock, removeStaleLock } from "./embedded-lock.ts";
import { launchServer, type ServerProcess } from "./embedded-process.ts";

export interface RunningServer {
  readonly pid: number;
  readonly port: number;
  /** Undefined where we joined a server of another process. */
  readonly process: ServerProcess | undefined;
}

export interface StartOptions {
  /** Tried first; with `pinned` no other will do, because connection strings that name it are in use. */
  readonly port: number | undefined;
  readonly pinned: boolean;
  readonly flags: readonly string[];
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly log: (message: string) => void;
}

const pollMs = 25;
const retryMs = 100;
const probeTimeoutMs = 2000;
const lostPortPatienceMs = 5000;
const wrongPassword = "28P01";

/** Below the ports that systems hand out to outgoing connections, one of which could sit on ours at a restart. */
const lowestPort = 20_000;
const highestPort = 29_999;

export function connectionString(cluster: Cluster, port: number): string {
  return `postgres://postgres:${cluster.password}@127.0.0.1:${port}/postgres`;
}

/** Throws where no server comes up; returns undefined where `signal` came first. */
export async function startOrJoin(
  cluster: Cluster,
  options: StartOptions,
): Promise<RunningServer | undefined> {
  const deadline = performance.now() + options.timeoutMs;
  let portLostAt: number | undefined;
  let port = options.port ?? (await findFreePort());
  let obstacle = "";
  while (!options.signal.aborted) {
    const now = performance.now();
    if (now > deadline) throw new Error(`PostgreSQL did not start in ${options.timeoutMs} ms. ${obstacle}`);
    if (portLostAt !== undefined && now > portLostAt + lostPortPatienceMs)
      throw new Error(`port ${port} stays taken`);

    const attempt = (await tryToJoin(cluster)) ?? (await tryToStart(cluster, port, deadline, options));
    if ("server" in attempt) {
      if (!options.pinned || attempt.server.port === port) return attempt.server;
      portLostAt ??= now;
      await delay(retryMs);
      continue;
    }
    obstacle = attempt.obstacle;
    if (attempt.kind === "fatal") throw new Error(`PostgreSQL did not start. ${obstacle}`);
    if (attempt.kind === "port taken") {
      if (portLostAt === undefined) options.log(`port ${port} is taken`);
      if (options.pinned) portLostAt ??= now;
      else port = await findFreePort();
    }
    await delay(attempt.kind === "starting" ? pollMs : retryMs);
  }
  return undefined;
}

type Attempt =
  | { readonly server: RunningServer }
  | { readonly kind: "starting" | "locked" | "port taken" | "fatal"; readonly obstacle: string };

/** Undefined where no server runs on the cluster. */
async function tryToJoin(cluster: Cluster): Promise<Attempt | undefined> {
  const { dataDirectory } = cluster;
  const lock = readLock(dataDirectory);
  if (!lock || !isAlive(lock.pid)) return undefined;
  if (!isServerOf(dataDirectory, lock.pid)) {
    await removeStaleLock(dataDirectory, lock.pid);
    return undefined;
  }
  const refusal = await probe(cluster, lock.port);
  if (refusal === undefined) return { server: { pid: lock.pid, port: lock.port, process: undefined } };
  return { ...refusal, kind: refusal.kind === "fatal" ? "fatal" : "starting" };
}

async function tryToStart(
  cluster: Cluster,
  port: number,
  deadline: number,
  { flags, signal }: StartOptions,
): Promise<Attempt> {
  const process = launchServer(cluster, port, flags);
  let obstacle = "";
  while (!process.exited && !signal.aborted && performance.now() < deadline) {
    const lock = readLock(cluster.dataDirectory);
    // Only the server's own number tells that it is ours: another start may hold the same port by now.
    if (lock?.ready && lock.pid === process.pid) {
      const refusal = await probe(cluster, port);
      if (refusal === undefined) return { server: { pid: lock.pid, port, process } };
      obstacle = refusal.obstacle;
      if (refusal.kind === "fatal") {
        await process.stop();
        return refusal;
      }
    }
    await delay(pollMs);
  }
  const exitedByItself = process.exited;
  await process.stop();
  const { output } = process;
  obstacle = tellingLines(output) || obstacle;
  if (/lock file .*(already exists|is empty)|pre-existing shared memory/.test(output))
    return { kind: "locked", obstacle };
  if (/could not bind|Address already in use/.test(output)) return { kind: "port taken", obstacle };
  return { kind: exitedByItself ? "fatal" : "locked", obstacle };
}

type Refusal = { readonly kind: "starting" | "fatal"; readonly obstacle: string };

/** Undefined where our server answers there: it takes our password and names our data directory. */
async function probe(cluster: Cluster, port: number): Promise<Refusal | undefined> {
  const client = new pg.Client({
    connectionString: connectionString(cluster, port),
    ssl: false,
    connectionTimeoutMillis: probeTimeoutMs,
    query_timeout: probeTimeoutMs,
  });
  client.on("error", () => undefined);
  try {
    await client.connect();
    const { rows } = await client.query<{ data_directory: string }>("show data_directory");
    if (rows[0]?.data_directory === cluster.dataDirectory) return undefined;
    return { kind: "starting", obstacle: `Another server answers on port ${port}.` };
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    if (code !== wrongPassword) return { kind: "starting", obstacle: message };
    return {
      kind: "fatal",
      obstacle: `The data in ${cluster.dataDirectory} was made with another password.`,
    };
  } finally {
    client.end().catch(() => undefined);
  }
}

/** What the server says about itself when it gives up; other lines may quote statements. */
function tellingLines(output: string): string {
  return output
    .split("\n")
    .filter((line) => /FATAL|HINT|could not|ENOENT|EACCES|EPERM|not found/.test(line))
    .join(" ");
}

async function findFreePort(): Promise<number> {
  for (;;) {
    const port = randomInt(lowestPort, highestPort + 1);
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
