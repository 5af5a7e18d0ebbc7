/** The instance's sign of life, by which the others know that it lives, and by which it sees a double of itself. */

import { randomUUID } from "node:crypto";
import type { BeatOutcome, Instance, InstanceStore } from "./instance.ts";

export interface Heartbeat {
  /** Throws what the store throws; an answer that was lost does no harm. Asked meanwhile, it is the one under way. */
  beat(): Promise<Exclude<BeatOutcome, "unknown">>;
  /** When the last one was, by Postgres's clock; null before the first. */
  lastBeatAtMs(): number | null;
}

export function createHeartbeat(options: {
  readonly instance: Instance;
  readonly store: Pick<InstanceStore, "register" | "beat" | "bar">;
  isListening(): boolean;
}): Heartbeat {
  const { instance, store } = options;
  let expected = "";
  /** Kept until it is answered: it may have been written. */
  let next: string | undefined;
  let lastBeatAtMs: number | null = null;
  let isRevoked = false;
  let running: Promise<Exclude<BeatOutcome, "unknown">> | undefined;

  async function beatOnce(): Promise<BeatOutcome> {
    // Not from the process's cache of random bytes: the copy of a process has the same.
    next ??= randomUUID({ disableEntropyCache: true });
    const { outcome, beatAtMs } = await store.beat({
      instanceId: instance.id,
      expected,
      beat: next,
      lastBeatAtMs,
      listening: options.isListening(),
    });
    if (outcome !== "alive") return outcome;
    expected = next;
    next = undefined;
    lastBeatAtMs = beatAtMs;
    return outcome;
  }

  async function beatAsKnown(): Promise<Exclude<BeatOutcome, "unknown">> {
    const outcome = await beatOnce();
    if (outcome !== "unknown") return outcome;
    // Lost with a restored backup.
    await store.register(instance);
    expected = "";
    const again = await beatOnce();
    return again === "unknown" ? "stopped" : again;
  }

  async function beat(): Promise<Exclude<BeatOutcome, "unknown">> {
    const outcome = await beatAsKnown();
    if (outcome === "revoked") isRevoked = true;
    if (outcome !== "alive" || !isRevoked) return outcome;
    // That, too, was lost with a restored backup.
    await store.bar(instance.id);
    return "revoked";
  }

  return {
    beat() {
      running ??= beat().finally(() => {
        running = undefined;
      });
      return running;
    },
    lastBeatAtMs: () => lastBeatAtMs,
  };
}
