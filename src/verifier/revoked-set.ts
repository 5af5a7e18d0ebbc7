/** What is revoked, as far as the verifier knows, and how old that knowledge is. */

import {
  type Cursor,
  parseCursor,
  type RevocationEvent,
  type RevocationType,
} from "../protocol/revocation-event.ts";

export interface RevokedSet {
  has(type: RevocationType, id: string): boolean;
  add(event: RevocationEvent): void;
  /** Everything up to this cursor has been added. Another epoch forgets nothing. */
  reached(cursor: string): void;
  /** The database's time, in seconds, up to which the instance that tells us has read the log. */
  heard(asOfSeconds: number): void;
  /** Milliseconds since what is heard last got any newer. */
  standsStillForMs(): number;
  cursor(): Cursor | undefined;
  /** Milliseconds that revocations may be missing for; infinite before the first complete reading. */
  ageMs(): number;
  size(): number;
}

/** Entries are looked through for expired ones after so many additions, and at most this often otherwise. */
const cleanEvery = 1000;
const cleanEveryMs = 60_000;

/**
 * The age is the larger of now − `as_of` and the time since `as_of` last rose: an instance that is cut off from its
 * database goes on sending heartbeats, and must not keep anyone content. Nor must a calendar that is set back.
 */
export function createRevokedSet(now: () => number, steadyNow: () => number): RevokedSet {
  const expiryMs = new Map<string, number>();
  let cursor: Cursor | undefined;
  let asOfMs = 0;
  let roseAtMs = steadyNow();
  let added = 0;
  let cleanedAtMs = now();

  const keyOf = (type: RevocationType, id: string) => `${type} ${id}`;

  function clean(): void {
    const nowMs = now();
    if (added < cleanEvery && nowMs - cleanedAtMs < cleanEveryMs) return;
    for (const [key, expiresAtMs] of expiryMs) if (expiresAtMs <= nowMs) expiryMs.delete(key);
    added = 0;
    cleanedAtMs = nowMs;
  }

  return {
    has: (type, id) => (expiryMs.get(keyOf(type, id)) ?? 0) > now(),
    add({ type, id, expires_at }) {
      expiryMs.set(keyOf(type, id), expires_at * 1000);
      added += 1;
      clean();
    },
    reached(text) {
      cursor = parseCursor(text) ?? cursor;
    },
    heard(asOfSeconds) {
      clean();
      if (!(asOfSeconds * 1000 > asOfMs)) return;
      asOfMs = asOfSeconds * 1000;
      roseAtMs = steadyNow();
    },
    standsStillForMs: () => steadyNow() - roseAtMs,
    cursor: () => cursor,
    ageMs() {
      if (cursor === undefined || asOfMs === 0) return Number.POSITIVE_INFINITY;
      return Math.max(now() - asOfMs, steadyNow() - roseAtMs, 0);
    },
    size: () => expiryMs.size,
  };
}
