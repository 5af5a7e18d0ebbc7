/** The lock file of the embedded PostgreSQL, and whether the process that it names still lives. */

import { spawnSync } from "node:child_process";
import { readFileSync, readlinkSync } from "node:fs";
import { link, readFile, rename, rm } from "node:fs/promises";
import path from "node:path";

/** What `postmaster.pid` tells; the server writes it before anything else, and removes it when it stops cleanly. */
export interface ServerLock {
  readonly pid: number;
  readonly port: number;
  readonly ready: boolean;
}

const lockName = "postmaster.pid";

export function readLock(dataDirectory: string): ServerLock | undefined {
  try {
    return parseLock(readFileSync(path.join(dataDirectory, lockName), "utf8"));
  } catch {
    return undefined;
  }
}

/** A zombie, which nothing may ever reap in a container, is not alive. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  try {
    const status = readFileSync(`/proc/${pid}/stat`, "utf8");
    return status.slice(status.lastIndexOf(")") + 2, status.lastIndexOf(")") + 3) !== "Z";
  } catch {
    return true;
  }
}

/**
 * Whether this process is a server of that data directory, rather than one that got its number later. A server works
 * in its data directory; where that may not be asked (another user's process, no /proc), any PostgreSQL may be it,
 * and so may a process of which nothing can be learnt.
 */
export function isServerOf(dataDirectory: string, pid: number): boolean {
  if (!isAlive(pid)) return false;
  try {
    return readlinkSync(`/proc/${pid}/cwd`) === dataDirectory;
  } catch {}
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("postgres");
  } catch {}
  const { stdout } = spawnSync("ps", ["-o", "command=", "-p", String(pid)], { encoding: "utf8" });
  return !stdout || stdout.includes("postgres");
}

/**
 * Removes the lock of a process that is no server of this folder. PostgreSQL does so itself for a dead process, and
 * refuses where the number belongs to another one by now. What is removed is looked at again, for between judging
 * the lock and removing it another start may have put its own in place.
 */
export async function removeStaleLock(dataDirectory: string, pid: number): Promise<void> {
  const lock = path.join(dataDirectory, lockName);
  const aside = `${lock}.stale-${process.pid}`;
  try {
    await rename(lock, aside);
    if (parseLock(await readFile(aside, "utf8"))?.pid !== pid) await link(aside, lock);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "EEXIST") throw error;
  } finally {
    await rm(aside, { force: true });
  }
}

function parseLock(text: string): ServerLock | undefined {
  const lines = text.split("\n");
  const [pid, port] = [Number(lines[0]), Number(lines[3])];
  return pid > 0 && port > 0 ? { pid, port, ready: lines[7]?.trim() === "ready" } : undefined;
}
