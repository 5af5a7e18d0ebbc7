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

export interface DirectoryFollower {
  readonly directory: Directory;
  /** Reads the table where the version is another than the one last read. Throws what the store throws. */
  follow(version: number): Promise<void>;
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
  let readVersion: number | undefined;
  let restoredAtMs = Number.NEGATIVE_INFINITY;
  const directory = createDirectory({
    clock,
    isAcceptable(key) {
      const fault = keyFault(secrets, alg, key);
      if (fault !== undefined) rejected.push({ kid: key.kid, fault });
      return fault === undefined;
    },
  });

  async function restoreLost(rows: readonly PublishedKey[]): Promise<void> {
    const lost = directory.lostFrom(rows);
    if (lost.length === 0 || clock.nowMs() < restoredAtMs + restoreEveryMs) return;
    restoredAtMs = clock.nowMs();
    options.onRestored(await store.restore(lost));
  }

  return {
    directory,
    async follow(version) {
      if (version === readVersion) return;
      const rows = await store.list();
      rejected = [];
      directory.learn(rows);
      readVersion = version;
      options.onRejected(rejected);
      await restoreLost(rows);
    },
  };
}
