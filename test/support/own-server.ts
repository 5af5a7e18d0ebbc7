/** A PostgreSQL of a test's own: with settings and an environment that others should not have, and to be ended. */

import { execFile } from "node:child_process";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { openCluster } from "../../src/postgres/embedded-folder.ts";
import { connectionString, type RunningServer, startOrJoin } from "../../src/postgres/embedded-server.ts";
import { migrate } from "../../src/postgres/migrate.ts";

export interface OwnServer {
  /** A migrated database. */
  readonly url: string;
  readonly pool: pg.Pool;
  /** Ends the server; `SIGQUIT` as a crash would: it has to recover. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again, on the same port. */
  start(): Promise<void>;
  /** Copies its files, while it is stopped; what is returned puts them back in the same way. */
  backUp(): Promise<() => Promise<void>>;
  /** Ends it, and removes its files. */
  remove(): Promise<void>;
}

export async function startOwnServer(options: {
  /** Beside those that make it fast. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly environment?: Readonly<Record<string, string>>;
  /** Of other binaries than the embedded ones. */
  readonly open?: typeof openCluster;
}): Promise<OwnServer> {
  const directory = await mkdtemp(path.join(tmpdir(), "keyfleet-own-"));
  // So that, where root runs the tests, the user who runs PostgreSQL can enter.
  await chmod(directory, 0o711);
  const silent = () => undefined;
  const opened = await (options.open ?? openCluster)({ directory, environment: process.env, log: silent });
  const environment = { ...opened.runner.environment, ...options.environment };
  const cluster = { ...opened, runner: { ...opened.runner, environment } };
  const settings = { fsync: "off", max_connections: "100", ...options.settings };
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  let server: RunningServer | undefined;

  async function start(port?: number): Promise<RunningServer> {
    server = await startOrJoin(cluster, {
      ...{ port, pinned: port !== undefined, flags, timeoutMs: 30_000, log: silent },
      signal: new AbortController().signal,
    });
    if (server === undefined) throw new Error("unreachable: nothing aborts the start");
    return server;
  }

  async function stop(signal: NodeJS.Signals = "SIGINT"): Promise<void> {
    if (server === undefined) return;
    process.kill(server.pid, signal);
    await server.process?.stop();
    server = undefined;
  }

  const { port } = await start();
  const url = new URL(connectionString(cluster, port));
  const pool = new pg.Pool({ connectionString: url.href, max: 5 });
  pool.on("error", silent);
  await migrate({ url: url.href });
  return {
    url: url.href,
    pool,
    stop,
    async start() {
      await start(port);
    },
    async backUp() {
      const { dataDirectory } = cluster;
      const copy = `${dataDirectory}-copy`;
      const replace = async (target: string, source: string) => {
        await stop();
        await rm(target, { recursive: true, force: true });
        // Owners are kept: they are another user's files where root runs the tests.
        await promisify(execFile)("cp", ["-a", source, target]);
        await start(port);
      };
      await replace(copy, dataDirectory);
      return () => replace(dataDirectory, copy);
    },
    async remove() {
      await pool.end();
      await stop();
      await rm(path.dirname(cluster.dataDirectory), { recursive: true, force: true });
      await rm(directory, { recursive: true, force: true });
    },
  };
}
