/** Drives the key ring: generate, publish, and only then hold as usable; drop what is done. */

import { type Clock, secondMs } from "../clock.ts";
import type { FleetSecrets } from "../fleet-secret.ts";
import type { SigningAlg } from "../protocol/jwk.ts";
import type { KeyRing } from "./key-ring.ts";
import {
  type KeyPublication,
  type KeyTimes,
  keyFault,
  type PublishedKey,
  sealPublication,
} from "./published-key.ts";
import type { PublishedKeyStore } from "./published-key-store.ts";
import { plannedPublications, type RotationSettings } from "./rotation-plan.ts";
import { generateSigningKey, type SigningKey } from "./signing-key.ts";

export type KeyEvent =
  | { readonly type: "published"; readonly key: PublishedKey }
  | { readonly type: "dropped"; readonly kid: string }
  | { readonly type: "refused"; readonly reason: "clock_differs" | "instance_ended" | "ring_revoked" }
  /** Others publish keys; this instance borrows signatures until one of them leaves. */
  | { readonly type: "placeless" };

export interface KeyRotation {
  /** One look at the ring, and what follows from it. Throws what the store throws; safe to call again at once. */
  tick(): Promise<void>;
  /** A place may have fallen free: asks for it soon. */
  lookForPlace(): void;
  /** Publishes no more, and goes on dropping; resolves when a publication under way has ended. */
  stop(): Promise<void>;
}

export interface KeyRotationOptions {
  readonly instanceId: string;
  readonly alg: SigningAlg;
  readonly clock: Clock;
  readonly secrets: FleetSecrets;
  readonly ring: KeyRing;
  readonly store: PublishedKeyStore;
  readonly settings: RotationSettings;
  /** How many instances may have keys that sign. */
  readonly maxSigners: number;
  /** Two sync intervals: by then every instance that reaches the database serves a key whose commit we saw (I1). */
  readonly settleMs: number;
  /** What the directory knows of a key: ends and revocations set by others. */
  latest(kid: string): PublishedKey | undefined;
  /** Wipes what was dropped: a private key's memory is cleansed only when it is collected. */
  collectGarbage(): void;
  onEvent(event: KeyEvent): void;
}

/** Who found no place asks again after this long, spread by half of it. */
const askForPlaceEveryMs = 5 * secondMs;

export function createKeyRotation(options: KeyRotationOptions): KeyRotation {
  const { clock, ring, store, secrets, alg, instanceId } = options;
  /**
   * A key whose publication may or may not have been committed: tried again rather than replaced, but for its period
   * alone. Others may know it with those times though its row is lost, as with a restored backup.
   */
  let pending:
    | { readonly signingKey: SigningKey; readonly madeAtMs: number; readonly retiresAtMs: number }
    | undefined;
  let running: Promise<void> | undefined;
  let stopped = false;
  let placelessUntilMs = Number.NEGATIVE_INFINITY;

  function dropPending(): void {
    pending?.signingKey.destroy();
    pending = undefined;
  }

  /** False where there was no place for it, and so for no other. */
  async function publish(times: KeyTimes): Promise<boolean> {
    const { retiresAtMs } = times;
    if (pending?.retiresAtMs !== retiresAtMs) dropPending();
    pending ??= { signingKey: generateSigningKey(alg), madeAtMs: clock.nowMs(), retiresAtMs };
    const { signingKey, madeAtMs } = pending;
    const { kid, x } = signingKey;
    const publication: KeyPublication = { ...times, kid, x, alg, instanceId };
    const conditions = { maxSigners: options.maxSigners, madeAtMs };
    const result = await store.publish(publication, sealPublication(secrets, publication), conditions);
    if (result.outcome === "no_place") {
      placelessUntilMs = clock.nowMs() + askForPlaceEveryMs * (0.75 + options.settings.jitter / 2);
      options.onEvent({ type: "placeless" });
      return false;
    }
    if (result.outcome === "ring_revoked") dropPending();
    if (result.outcome !== "published") {
      options.onEvent({ type: "refused", reason: result.outcome });
      return true;
    }
    const published = result.key;
    if (published.kid !== kid || published.x !== x || keyFault(secrets, alg, published) !== undefined) {
      throw new Error("the database holds another row than the one that was published");
    }
    ring.add(signingKey, published, clock.nowMs() + options.settleMs);
    pending = undefined;
    placelessUntilMs = Number.NEGATIVE_INFINITY;
    options.onEvent({ type: "published", key: published });
    return true;
  }

  async function tick(): Promise<void> {
    const dropped = ring.dropDone();
    for (const kid of dropped) options.onEvent({ type: "dropped", kid });
    if (dropped.length > 0) options.collectGarbage();
    ring.refresh(options.latest);
    if (stopped || clock.nowMs() < placelessUntilMs) return;
    for (const times of plannedPublications(ring.keys(), options.settings, clock.nowMs())) {
      if (!(await publish(times))) return;
    }
  }

  return {
    tick() {
      running ??= tick().finally(() => {
        running = undefined;
      });
      return running;
    },
    lookForPlace() {
      if (placelessUntilMs === Number.NEGATIVE_INFINITY) return;
      placelessUntilMs = Math.min(placelessUntilMs, clock.nowMs() + secondMs * options.settings.jitter);
    },
    async stop() {
      stopped = true;
      await running?.catch(() => undefined);
    },
  };
}
