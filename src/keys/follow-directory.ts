/** Keeps the directory equal to the table of keys, row by row judged before it is believed. */

import { type Clock, secondMs } from "../clock.ts";
import type { FleetSecrets } from "../fleet-secret.ts";
import type { SigningAlg } from "../protocol/jwk.ts";
import { createDirectory, type Directory } from "./directory.ts";
import { type KeyFault, keyFault, type PublishedKey } from "./published-key.ts";
import type { PublishedKeyStore } from "./published-key-store.ts";

export interface RejectedKey {
  readonly kid: string;
  readonly fault: KeyFault;
}

/** What the one-row state says of the table. */
export interface DirectoryState {
  readonly epoch: string;
  /** Rises with every change of any row, within an epoch: a restored backup comes to the same number by other changes. */
  readonly directoryVersion: number;
}

export interface DirectoryFollower {
  readonly directory: Directory;
  /**
   * Reads the table where the state is another than the one last read, and puts back what it lacks. Throws what the store
   * throws, and has then to be called again.
   */
  follow(state: DirectoryState): Promise<void>;
}

export interface DirectoryFollowerOptions {
  readonly clock: Clock;
  readonly secrets: FleetSecrets;
  readonly alg: SigningAlg;
  readonly store: Pick<PublishedKeyStore, "list" | "restore">;
  /** The rows that are not served, after each reading of the table. */
  onRejected(rejected: readonly RejectedKey[]): void;
  /** The table had gone back in time; so many rows are as they were again. */
  onRestored(rows: number): void;
}

/** Whoever deletes rows as fast as they are put back must not keep the fleet busy with it. */
const restoreEveryMs = 5 * secondMs;

export function createDirectoryFollower(options: DirectoryFollowerOptions): DirectoryFollower {
  const { clock, secrets, alg, store } = options;
  let rejected: RejectedKey[] = [];
  /** Of the last reading after which nothing was left to put back. */
  let done: DirectoryState | undefined;
  let restoredAtMs = Number.NEGATIVE_INFINITY;
  const directory = createDirectory({
    clock,
    isAcceptable(key) {
      const fault = keyFault(secrets, alg, key);
      if (fault !== undefined) rejected.push({ kid: key.kid, fault });
      return fault === undefined;
    },
  });

  /** False where it is too early for that. */
  async function restoreLost(rows: readonly PublishedKey[]): Promise<boolean> {
    const lost = directory.lostFrom(rows);
    if (lost.length === 0) return true;
    if (clock.nowMs() < restoredAtMs + restoreEveryMs) return false;
    restoredAtMs = clock.nowMs();
    options.onRestored(await store.restore(lost));
    return true;
  }

  return {
    directory,
    async follow({ epoch, directoryVersion }) {
      if (epoch === done?.epoch && directoryVersion === done.directoryVersion) return;
      const rows = await store.list();
      rejected = [];
      directory.learn(rows);
      options.onRejected(rejected);
      if (await restoreLost(rows)) done = { epoch, directoryVersion };
    },
  };
}
