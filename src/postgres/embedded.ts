/** The embedded PostgreSQL of development and tests: one real server for a folder, shared by all its processes. */

import { type Cluster, openCluster, readLastPort, writeLastPort } from "./embedded-folder.ts";
import { isAlive, readLock } from "./embedded-lock.ts";
import { connectionString, type RunningServer, type StartOptions, startOrJoin } from "./embedded-server.ts";

export interface EmbeddedPostgres {
  /** Of the superuser `postgres` to the database `postgres`, on 127.0.0.1. Holds the password: never log it. */
  readonly url: string;
  readonly port: number;
  /** Whether the server is ours. Else we joined one that another process of the same folder runs. */
  readonly owner: boolean;
  readonly dataDirectory: string;
  /** Stops the server if it is ours, ending its connections; if not, only lets go. Safe at any point, and twice. */
  stop(): Promise<void>;
}

const watchIntervalMs = 250;

/**
 * Starts the server, or joins the one that runs. It lives as long as the process that started it; when it is gone
 * before its time, whoever notices first among those that use it starts it again, with the same data, on the same
 * port. Throws where it is not installed, cannot run, or does not answer in time.
 */
export async function startEmbeddedPostgres(options: {
  readonly directory: string;
  /** The server gets of it only what it needs to run. */
  readonly environment: NodeJS.ProcessEnv;
  /** For `postgres`, such as ["-c", "fsync=off"]. They have no effect on a server that is joined. */
  readonly flags?: readonly string[];
  readonly startTimeoutMs?: number;
  readonly log?: (message: string) => void;
}): Promise<EmbeddedPostgres> {
  const { directory, environment, flags = [], startTimeoutMs = 60_000, log = () => undefined } = options;
  const cluster = await openCluster({ directory, environment, log });
  const stopping = new AbortController();
  const start: Omit<StartOptions, "port" | "pinned"> = {
    flags,
    timeoutMs: startTimeoutMs,
    signal: stopping.signal,
    log,
  };
  const server = await startOrJoin(cluster, { ...start, port: await readLastPort(cluster), pinned: false });
  if (!server) throw new Error("unreachable: nothing has aborted the start");
  await announce(cluster, server, log);
  return keepRunning(cluster, server, start, stopping);
}

function keepRunning(
  cluster: Cluster,
  first: RunningServer,
  start: Omit<StartOptions, "port" | "pinned">,
  stopping: AbortController,
): EmbeddedPostgres {
  const { port } = first;
  let server: RunningServer | undefined = first;
  let revival: Promise<void> | undefined;
  let stopped: Promise<void> | undefined;

  async function revive(gone: RunningServer): Promise<void> {
    start.log(`the server with pid ${gone.pid} is gone`);
    server = undefined;
    try {
      await gone.process?.stop();
      server = await startOrJoin(cluster, { ...start, port, pinned: true });
      if (server) await announce(cluster, server, start.log);
    } catch (error) {
      clearInterval(watch);
      start.log(`the server is not started again: ${(error as Error).message}`);
    } finally {
      revival = undefined;
    }
  }

  const watch = setInterval(() => {
    if (server && !isRunning(cluster, server)) revival = revive(server);
  }, watchIntervalMs);
  watch.unref();

  async function stop(): Promise<void> {
    clearInterval(watch);
    stopping.abort();
    await revival;
    await server?.process?.stop();
  }

  return {
    url: connectionString(cluster, port),
    port,
    get owner() {
      return server?.process !== undefined;
    },
    dataDirectory: cluster.dataDirectory,
    stop() {
      stopped ??= stop();
      return stopped;
    },
  };
}

/** By the lock as well as the process, for the number of a dead server may be another's by now. */
function isRunning(cluster: Cluster, server: RunningServer): boolean {
  return readLock(cluster.dataDirectory)?.pid === server.pid && isAlive(server.pid);
}

async function announce(
  cluster: Cluster,
  server: RunningServer,
  log: (message: string) => void,
): Promise<void> {
  if (server.process) await writeLastPort(cluster, server.port);
  const what = server.process ? "started" : "joined";
  log(`${what} PostgreSQL ${cluster.binaries.version}, pid ${server.pid}, on port ${server.port}`);
}
