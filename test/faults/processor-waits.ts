/** How long processes have waited for a processor that others had: on a busy machine that says nothing about them. */

import { readFileSync } from "node:fs";

/** Of the process's main thread, since its start; 0 where the system does not say. */
function waitedForProcessorMs(pid: number | undefined): number {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ")[1]) / 1e6;
  } catch {
    return 0;
  }
}

export interface ProcessorWaits {
  /** Between the samples around these times, by `Date.now()`. */
  waitedMs(pid: number | undefined, fromMs: number, toMs: number): number;
  close(): void;
}

const everyMs = 200;
const samplesKept = 300;

export function watchProcessorWaits(pids: () => readonly (number | undefined)[]): ProcessorWaits {
  let samples: { readonly atMs: number; readonly waited: ReadonlyMap<number | undefined, number> }[] = [];
  const sample = () => new Map(pids().map((pid) => [pid, waitedForProcessorMs(pid)]));
  const timer = setInterval(() => {
    samples = [...samples.slice(-samplesKept), { atMs: Date.now(), waited: sample() }];
  }, everyMs);
  return {
    waitedMs(pid, fromMs, toMs) {
      const before = samples.findLast(({ atMs }) => atMs <= fromMs)?.waited.get(pid) ?? 0;
      const after = samples.find(({ atMs }) => atMs >= toMs)?.waited.get(pid) ?? waitedForProcessorMs(pid);
      return Math.max(0, after - before);
    },
    close: () => clearInterval(timer),
  };
}
