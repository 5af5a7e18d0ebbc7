/** One instance of the fleet: its identity, and its sign of life in the database. */

import { randomUUID } from "node:crypto";
import { hostname } from "node:os";

/** A heartbeat is written this often; three that are missing are silence, a minute of it is death (in SQL). */
export const heartbeatEveryMs = 5000;

export interface Instance {
  readonly id: string;
  readonly host: string;
  readonly processId: number;
}

export interface Beat {
  readonly instanceId: string;
  /** Random, another each time: two processes under one id see each other by it. */
  readonly beat: string;
  /** The one before, as far as is known. */
  readonly expected: string;
  /** When that was, by Postgres's clock; null before the first. */
  readonly lastBeatAtMs: number | null;
  /** Whether notifications arrive: only then can it lend signatures. */
  readonly listening: boolean;
}

/**
 * `duplicated`: another process beats under this id, which is stopped for it; so is it `stopped` for that one. Both have to
 * begin anew. `revoked`: it may publish no keys, and borrow none.
 */
export type BeatOutcome = "alive" | "unknown" | "revoked" | "stopped" | "duplicated";

export interface InstanceStore {
  /** Writes the instance's row, or finds it there. */
  register(instance: Instance): Promise<void>;
  beat(beat: Beat): Promise<{ readonly outcome: BeatOutcome; readonly beatAtMs: number | null }>;
  /** Revokes an instance again that knows that it was. */
  bar(instanceId: string): Promise<void>;
  /** Ends the instance: its unused keys are withdrawn, its current one is retired, both by now. */
  stop(instanceId: string): Promise<void>;
  /** Ends the keys of instances that are dead, where this one may judge. Returns whose. */
  retireLost(instanceId: string): Promise<readonly string[]>;
  /** It is shutting down: another may publish keys in its place. */
  giveUpPlace(instanceId: string): Promise<void>;
  /**
   * In how long the fleet has a mature signer that stays: 0 also where nobody but this instance is there, or it has no
   * keys; undefined where nobody who stays has published one.
   */
  replacedInMs(instanceId: string, propagationDelayMs: number): Promise<number | undefined>;
}

/** A new identity: a process that starts again is another instance. */
export function createInstance(): Instance {
  return {
    id: randomUUID({ disableEntropyCache: true }),
    host: hostname().slice(0, 255),
    processId: process.pid,
  };
}
