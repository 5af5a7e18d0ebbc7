/** pgbouncer in transaction mode in front of a database (Debian's package of that name). */

import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import pg from "pg";
import { chooseRunner } from "../../src/postgres/embedded-user.ts";
import { eventually } from "./accounts.ts";
import { freePort } from "./free-port.ts";

/** Undefined where it is not installed. */
export const pgbouncer = ["pgbouncer", "/usr/sbin/pgbouncer"].find(
  (program) => spawnSync(program, ["--version"]).status === 0,
);

export interface Pooler {
  /** The database's url, through the pooler. */
  readonly url: string;
  close(): Promise<void>;
}

/** What the documents say to ignore; the pooler takes none of ours itself. */
export const documentedParameters = [
  "statement_timeout",
  "lock_timeout",
  "idle_in_transaction_session_timeout",
];

/**
 * `server_login_retry`: for so long nobody gets a new connection after an attempt of the pooler's own that failed; the
 * documents say 1 s, pgbouncer's default is 15.
 */
export async function startPooler(
  databaseUrl: string,
  ignoredParameters: readonly string[],
  loginRetrySeconds = 1,
): Promise<Pooler> {
  const target = new URL(databaseUrl);
  const name = target.pathname.slice(1);
  const folder = mkdtempSync(path.join(tmpdir(), "keyfleet-pooler-"));
  const port = await freePort();
  const file = path.join(folder, "pgbouncer.ini");
  const server = `host=127.0.0.1 port=${target.port} dbname=${name} user=${target.username}`;
  // Few connections, so that statements of one client go to many, and those of many clients to one.
  const settings = {
    listen_addr: "127.0.0.1",
    listen_port: port,
    unix_socket_dir: "",
    auth_type: "any",
    pool_mode: "transaction",
    default_pool_size: 4,
    ignore_startup_parameters: ignoredParameters.join(", "),
    server_login_retry: loginRetrySeconds,
  };
  writeFileSync(
    file,
    [
      `[databases]\n${name} = ${server} password='${decodeURIComponent(target.password)}'\n[pgbouncer]`,
      ...Object.entries(settings).map(([key, value]) => `${key} = ${value}`),
    ].join("\n"),
  );
  // It, too, refuses to run as root.
  chmodSync(folder, 0o755);
  const { user } = await chooseRunner(process.env, folder);
  const child = spawn(pgbouncer ?? "", ["-q", file], { ...user, cwd: "/", stdio: "ignore" });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const url = new URL(databaseUrl);
  url.hostname = "127.0.0.1";
  url.port = String(port);
  await eventually(() => canConnect(url.href));
  return {
    url: url.href,
    async close() {
      child.kill("SIGTERM");
      await exited;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function canConnect(connectionString: string): Promise<boolean> {
  const client = new pg.Client({ connectionString });
  try {
    await client.connect();
    await client.query("select 1");
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}
