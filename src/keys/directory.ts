/** The directory: every unexpired key of the fleet, in memory, so that serving the JWKS asks no database. */

import type { Clock } from "../clock.ts";
import { expiryMs, isTime, type PublishedKey, retirementMs } from "./published-key.ts";

/** What is served until `changesAtMs`; a new object whenever the keys differ, so that it can key a cache. */
export interface DirectorySnapshot {
  readonly keys: readonly PublishedKey[];
  /** When the next key expires, in milliseconds since 1970. */
  readonly changesAtMs: number;
}

export type KeyLookup =
  | { readonly status: "published" | "revoked"; readonly key: PublishedKey }
  | { readonly status: "unknown" };

export interface Directory {
  /** Takes rows in. A key once seen stays until its own end, whatever became of its row (I3). */
  learn(rows: readonly PublishedKey[]): void;
  /** Keeps every key that is known now at least until then: the answer to a clock that stepped forward. */
  keepKnownKeysUntil(timeMs: number): void;
  snapshot(): DirectorySnapshot;
  /** Unexpired keys of which the rows say less than is known: absent, or without their earlier end or revocation. */
  lostFrom(rows: readonly PublishedKey[]): readonly PublishedKey[];
  find(kid: string): KeyLookup;
  /** False before the first `learn`. */
  isLoaded(): boolean;
}

interface KnownKey {
  readonly key: PublishedKey;
  readonly keptUntilMs: number;
}

/**
 * Ends only move earlier, and what was revoked stays so, even where a restored backup says otherwise. An end need not
 * be sealed, for it can only take away; but it has to be a time, or the key would have none.
 */
function mergeKey(known: PublishedKey, row: PublishedKey, acceptable: boolean): PublishedKey {
  const earlier = (a: number | null, b: number | null) =>
    a === null || b === null ? (a ?? b) : Math.min(a, b);
  const retiredEarlyAtMs = isTime(row.retiredEarlyAtMs) ? row.retiredEarlyAtMs : null;
  return {
    ...known,
    retiredEarlyAtMs: earlier(known.retiredEarlyAtMs, retiredEarlyAtMs),
    revokedAtMs: known.revokedAtMs ?? row.revokedAtMs,
    seal: acceptable ? row.seal : known.seal,
  };
}

function isLostFrom(key: PublishedKey, row: PublishedKey | undefined): boolean {
  if (row === undefined) return true;
  const isRevocationLost = key.revokedAtMs !== null && row.revokedAtMs === null;
  return isRevocationLost || retirementMs(key) < retirementMs(row);
}

function endMs(known: KnownKey): number {
  return Math.max(expiryMs(known.key), known.keptUntilMs);
}

/** `isAcceptable` is asked for every row of an unexpired key, each time: an altered row is an alarm. */
export function createDirectory(deps: {
  readonly clock: Clock;
  readonly isAcceptable: (key: PublishedKey) => boolean;
}): Directory {
  const { clock, isAcceptable } = deps;
  const known = new Map<string, KnownKey>();
  let loaded = false;
  let current: DirectorySnapshot | undefined;

  function forgetExpired(nowMs: number): void {
    for (const [kid, entry] of known) if (endMs(entry) <= nowMs) known.delete(kid);
  }

  function takeSnapshot(): DirectorySnapshot {
    if (!loaded) return { keys: [], changesAtMs: Number.NEGATIVE_INFINITY };
    const nowMs = clock.nowMs();
    if (current !== undefined && nowMs < current.changesAtMs) return current;
    forgetExpired(nowMs);
    const served = [...known.values()].filter((entry) => entry.key.revokedAtMs === null);
    const changesAtMs = Math.min(...served.map(endMs));
    const sorted = served.map((entry) => entry.key).sort((a, b) => (a.kid < b.kid ? -1 : 1));
    current = { keys: sorted, changesAtMs };
    return current;
  }

  return {
    learn(rows) {
      const nowMs = clock.nowMs();
      for (const row of rows) {
        const entry = known.get(row.kid);
        if (entry !== undefined) {
          known.set(row.kid, { ...entry, key: mergeKey(entry.key, row, isAcceptable(row)) });
        } else if (!(expiryMs(row) <= nowMs) && isAcceptable(row)) {
          known.set(row.kid, { key: row, keptUntilMs: 0 });
        }
      }
      loaded = true;
      current = undefined;
    },
    keepKnownKeysUntil(timeMs) {
      for (const [kid, entry] of known) {
        known.set(kid, { ...entry, keptUntilMs: Math.max(entry.keptUntilMs, timeMs) });
      }
      current = undefined;
    },
    snapshot: takeSnapshot,
    lostFrom(rows) {
      const nowMs = clock.nowMs();
      const rowOf = new Map(rows.map((row) => [row.kid, row]));
      return [...known.values()]
        .map((entry) => entry.key)
        .filter((key) => expiryMs(key) > nowMs && isLostFrom(key, rowOf.get(key.kid)));
    },
    find(kid) {
      const entry = known.get(kid);
      if (entry === undefined || endMs(entry) <= clock.nowMs()) return { status: "unknown" };
      return { status: entry.key.revokedAtMs === null ? "published" : "revoked", key: entry.key };
    },
    isLoaded: () => loaded,
  };
}
