/** OpenSSL's secure heap, in which private keys lie: locked, never swapped, left out of core dumps. */

import { secureHeapUsed } from "node:crypto";
import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** 64 KiB hold 2,040 keys; Node starts with a secure heap only where told so on its command line. */
export const secureHeapFlags = ["--secure-heap=65536", "--secure-heap-min=2"] as const;

/**
 * Why private keys would not be safe in this process's memory; undefined where they are. Both ways to fail are
 * silent: no secure heap at all, and one whose pages could not be locked (RLIMIT_MEMLOCK).
 */
export function secureHeapProblem(): string | undefined {
  const totalBytes = secureHeapUsed()?.total ?? 0;
  if (totalBytes === 0) return `there is no secure heap: start Node with ${secureHeapFlags.join(" ")}`;
  const lockedKiB = lockedMemoryKiB();
  if (lockedKiB === undefined) return "whether the secure heap is locked cannot be told on this system";
  if (lockedKiB < totalBytes / 1024) return "the secure heap is not locked: raise RLIMIT_MEMLOCK (ulimit -l)";
  return undefined;
}

/** `VmLck` of this process: Linux only. */
function lockedMemoryKiB(): number | undefined {
  try {
    const match = /^VmLck:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"));
    return match === null ? undefined : Number(match[1]);
  } catch {
    return undefined;
  }
}

/** Collects garbage now: a private key's memory is wiped when its object is collected, and not before. */
export function createGarbageCollector(): () => void {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc") as () => void;
}
