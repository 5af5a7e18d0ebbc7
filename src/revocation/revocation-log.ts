/** The revocation log as this instance has read it: what is unexpired, in order, and up to when that is complete. */

import type { Clock } from "../clock.ts";
import type { Cursor } from "../protocol/revocation-event.ts";
import type { Revocation, RevocationState, RevocationStore } from "./revocation.ts";

export interface RevocationLog {
  /** Reads what is new according to the state. Throws what the store throws, and has then read nothing. */
  follow(state: RevocationState): Promise<void>;
  /** False before the first reading. */
  isLoaded(): boolean;
  /** Of the last entry read. */
  cursor(): Cursor;
  /** The database time up to which the log has been read: it stands still while the database is away. */
  asOfMs(): number;
  /** Unexpired entries after a number, in order; at most so many. */
  after(number: number, limit?: number): readonly Revocation[];
  /** Called with new entries, in order; with none where another epoch has begun. Returns what ends it. */
  subscribe(onEntries: (entries: readonly Revocation[]) => void): () => void;
  size(): number;
}

/** How many entries are read between two clean-ups. */
const cleanEvery = 1000;

export function createRevocationLog(deps: {
  readonly clock: Clock;
  readonly store: RevocationStore;
}): RevocationLog {
  const { clock, store } = deps;
  const subscribers = new Set<(entries: readonly Revocation[]) => void>();
  let entries: Revocation[] = [];
  let current: Cursor = { epoch: "", number: 0 };
  let asOfMs = 0;
  let sinceCleaned = 0;
  let oldestExpiryMs = Number.POSITIVE_INFINITY;

  function forgetExpired(): void {
    const nowMs = clock.nowMs();
    if (sinceCleaned < cleanEvery && nowMs < oldestExpiryMs + 1000) return;
    entries = entries.filter((entry) => entry.expiresAtMs > nowMs);
    oldestExpiryMs = entries.reduce(
      (oldest, entry) => Math.min(oldest, entry.expiresAtMs),
      Number.POSITIVE_INFINITY,
    );
    sinceCleaned = 0;
  }

  /** The index of the first entry after a number: they are in order. */
  function indexAfter(number: number): number {
    let [from, to] = [0, entries.length];
    while (from < to) {
      const middle = (from + to) >>> 1;
      if ((entries[middle]?.number ?? 0) > number) to = middle;
      else from = middle + 1;
    }
    return from;
  }

  function add(read: readonly Revocation[]): void {
    for (const entry of read) {
      entries.push(entry);
      oldestExpiryMs = Math.min(oldestExpiryMs, entry.expiresAtMs);
    }
    sinceCleaned += read.length;
  }

  function tell(read: readonly Revocation[]): void {
    for (const onEntries of subscribers) onEntries(read);
  }

  return {
    async follow({ epoch, revocationNumber, databaseMs }) {
      const isNewEpoch = epoch !== current.epoch;
      const from = isNewEpoch ? 0 : current.number;
      const read = revocationNumber > from ? await store.listAfter(from) : [];
      if (isNewEpoch) {
        entries = [];
        oldestExpiryMs = Number.POSITIVE_INFINITY;
      }
      add(read);
      current = { epoch, number: Math.max(revocationNumber, read.at(-1)?.number ?? 0) };
      asOfMs = Math.min(databaseMs, clock.nowMs());
      forgetExpired();
      if (isNewEpoch) tell([]);
      else if (read.length > 0) tell(read);
    },
    isLoaded: () => current.epoch !== "",
    cursor: () => current,
    asOfMs: () => asOfMs,
    after(number, limit = Number.POSITIVE_INFINITY) {
      const nowMs = current.epoch === "" ? 0 : clock.nowMs();
      const found: Revocation[] = [];
      for (let index = indexAfter(number); index < entries.length && found.length < limit; index += 1) {
        const entry = entries[index];
        if (entry !== undefined && entry.expiresAtMs > nowMs) found.push(entry);
      }
      return found;
    },
    subscribe(onEntries) {
      subscribers.add(onEntries);
      return () => subscribers.delete(onEntries);
    },
    size: () => entries.length,
  };
}
