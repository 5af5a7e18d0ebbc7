/** Launches the process of the embedded PostgreSQL, such that it ends with us however we end. */

import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";
import type { Cluster } from "./embedded-folder.ts";

export interface ServerProcess {
  /** Known as soon as the server is launched, a moment after the shell. */
  readonly pid: number | undefined;
  readonly exited: boolean;
  /** The end of what it printed. Statements may be quoted in it, so it is not for logs as it stands. */
  readonly output: string;
  /** Ends it by a fast shutdown, and waits for that. */
  stop(): Promise<void>;
}

/**
 * Tells the server's number, then waits for it. A second shell waits for the end of our pipe, which comes however we
 * end, kill -9 included, and then asks the server for a fast shutdown: again and again, for a server that has only
 * just been launched does not listen yet.
 */
const shellScript = `
exec 3<&0
"$@" </dev/null >/dev/null 3<&- &
server=$!
echo $server
( read _ <&3; while kill -INT $server; do sleep 0.2; done ) >/dev/null 2>&1 &
guard=$!
wait $server; status=$?
kill $guard 2>/dev/null
exit $status`;

/** Launches the server, in a session of its own, so that Ctrl-C reaches us alone and we can drain first. */
export function launchServer(cluster: Cluster, port: number, flags: readonly string[]): ServerProcess {
  const { runner, binaries, dataDirectory } = cluster;
  const server = [path.join(binaries.folder, "bin", "postgres"), "-D", dataDirectory, "-p", String(port)];
  const fixed = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="];
  const shell = spawn("/bin/sh", ["-c", shellScript, "sh", ...server, ...fixed, ...flags], {
    ...runner.user,
    cwd: "/",
    env: runner.environment,
    detached: true,
    stdio: ["pipe", "pipe", "pipe"],
  });
  return watchOver(shell);
}

function watchOver(shell: ChildProcess): ServerProcess {
  let announced = "";
  let output = "";
  let exited = false;
  shell.stdin?.on("error", () => undefined);
  shell.stdout?.on("data", (chunk) => {
    announced += chunk;
  });
  shell.stderr?.on("data", (chunk) => {
    output = (output + chunk).slice(-4000);
  });
  const closed = new Promise<void>((resolve) => {
    const finish = () => {
      exited = true;
      resolve();
    };
    shell.on("error", (error) => {
      output += error.message;
      finish();
    });
    shell.on("exit", () => {
      exited = true;
      shell.stdin?.end();
    });
    shell.on("close", finish);
  });
  return {
    get pid() {
      return announced.includes("\n") ? Number.parseInt(announced, 10) : undefined;
    },
    get exited() {
      return exited;
    },
    get output() {
      return output;
    },
    async stop() {
      shell.stdin?.end();
      await closed;
    },
  };
}
