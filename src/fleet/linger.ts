/** What an instance does between its last request and its end: others lean on its mature key until they have one. */

import type { Logger } from "../logger.ts";
import type { InstanceStore } from "./instance.ts";

const askEveryMs = 500;

/**
 * Gives up the place among the signers at once, and returns after `durationMs`, or as soon as another instance that stays
 * has a mature key, or none is alive. Never throws: without the database it waits the whole time.
 */
export async function linger(options: {
  readonly instances: Pick<InstanceStore, "giveUpPlace" | "mayLeave">;
  readonly instanceId: string;
  readonly propagationDelayMs: number;
  readonly durationMs: number;
  readonly logger: Logger;
}): Promise<void> {
  const { instances, instanceId, propagationDelayMs, durationMs, logger } = options;
  const endsAtMs = performance.now() + durationMs;
  let hasGivenUp = false;

  async function isNeeded(): Promise<boolean> {
    try {
      if (!hasGivenUp) await instances.giveUpPlace(instanceId);
      hasGivenUp = true;
      return !(await instances.mayLeave(instanceId, propagationDelayMs));
    } catch {
      return true;
    }
  }

  for (let told = false; performance.now() < endsAtMs && (await isNeeded()); told = true) {
    if (!told) logger.info({ linger_ms: durationMs }, "lending signatures until another instance can");
    await new Promise((resolve) => setTimeout(resolve, askEveryMs));
  }
}
