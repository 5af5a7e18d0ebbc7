/** Which operating system user the embedded PostgreSQL runs as, and how commands are run as that user. */

import { execFile } from "node:child_process";
import { chown, lstat, readFile } from "node:fs/promises";
import { promisify } from "node:util";

export interface SystemUser {
  readonly uid: number;
  readonly gid: number;
}

/** `user` is undefined where PostgreSQL runs as whoever we are. */
export interface Runner {
  readonly user: SystemUser | undefined;
  readonly environment: NodeJS.ProcessEnv;
}

/** What the server needs to find its libraries and its time zone. Everything else may hold a secret, or steer it. */
const inheritedNames = ["PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"];

/** initdb wants a name from the password file, so a bare number would not do. */
const unprivilegedNames = ["postgres", "_postgres", "nobody"];

/**
 * PostgreSQL refuses to run as root. Root runs it as the owner of `dataDirectory`, where there is one already, else
 * as the first of `postgres` and `nobody` that exists; everybody else runs it as themselves.
 */
export async function chooseRunner(environment: NodeJS.ProcessEnv, dataDirectory: string): Promise<Runner> {
  const inherited = inheritedNames.flatMap((name) => (environment[name] ? [[name, environment[name]]] : []));
  return {
    user:
      process.getuid?.() === 0 ? ((await ownerOf(dataDirectory)) ?? (await unprivilegedUser())) : undefined,
    environment: { ...Object.fromEntries(inherited), LC_ALL: "C" },
  };
}

/** Makes the file or folder belong to the user that runs PostgreSQL. */
export async function handOver(path: string, runner: Runner): Promise<void> {
  if (runner.user) await chown(path, runner.user.uid, runner.user.gid);
}

/** Runs a command to its end as that user; what it printed on stderr, or why it could not run, is in `complaint`. */
export async function runCommand(
  runner: Runner,
  command: string,
  args: readonly string[],
  timeoutMs = 60_000,
): Promise<{ readonly succeeded: boolean; readonly complaint: string }> {
  const options = { cwd: "/", env: runner.environment, timeout: timeoutMs, ...runner.user };
  try {
    await promisify(execFile)(command, args, options);
    return { succeeded: true, complaint: "" };
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    return { succeeded: false, complaint: (stderr || message).trim() };
  }
}

async function ownerOf(directory: string): Promise<SystemUser | undefined> {
  try {
    const { uid, gid } = await lstat(directory);
    return uid === 0 ? undefined : { uid, gid };
  } catch {
    return undefined;
  }
}

async function unprivilegedUser(): Promise<SystemUser> {
  const entries = (await readFile("/etc/passwd", "utf8")).split("\n").map((line) => line.split(":"));
  for (const wanted of unprivilegedNames) {
    const [, , uid, gid] = entries.find(([name]) => name === wanted) ?? [];
    if (uid && gid && uid !== "0") return { uid: Number(uid), gid: Number(gid) };
  }
  throw new Error(
    "root cannot run PostgreSQL, and there is no user postgres or nobody; set DATABASE_URL instead",
  );
}
