/** What an instance does between its last request and its end: others lean on its mature key until they have one. */

import type { Logger } from "../logger.ts";
import type { InstanceStore } from "./instance.ts";

const askEveryMs = 500;
/**
 * Another takes the place some seconds after it was given up, and its key matures so much later: where `durationMs` is
 * the propagation delay, that is the time by which it would be too short.
 */
const handoverMs = 15_000;

/**
 * Gives up the place among the signers at once, and returns as soon as another instance that stays has a mature key, or
 * none is alive; after `durationMs` at the latest, or 15 s later where one is just about to mature. Never throws: without
 * the database it waits for `durationMs`.
 */
export async function linger(options: {
  readonly instances: Pick<InstanceStore, "giveUpPlace" | "replacedInMs">;
  readonly instanceId: string;
  readonly propagationDelayMs: number;
  readonly durationMs: number;
  readonly logger: Logger;
}): Promise<void> {
  const { instances, instanceId, propagationDelayMs, durationMs, logger } = options;
  const endsAtMs = performance.now() + durationMs;
  let hasGivenUp = false;

  /** By `performance.now()`; infinite where nobody is in sight, or that is not known. */
  async function replacedAtMs(): Promise<number> {
    try {
      if (!hasGivenUp) await instances.giveUpPlace(instanceId);
      hasGivenUp = true;
      const inMs = await instances.replacedInMs(instanceId, propagationDelayMs);
      return performance.now() + (inMs ?? Number.POSITIVE_INFINITY);
    } catch {
      return Number.POSITIVE_INFINITY;
    }
  }

  if (durationMs === 0) return;
  for (let told = false; ; told = true) {
    const atMs = await replacedAtMs();
    const nowMs = performance.now();
    const isSoon = atMs <= endsAtMs + handoverMs;
    if (atMs <= nowMs || (nowMs >= endsAtMs && !isSoon)) return;
    if (!told) logger.info({ linger_ms: durationMs }, "lending signatures until another instance can");
    await new Promise((resolve) => setTimeout(resolve, askEveryMs));
  }
}
