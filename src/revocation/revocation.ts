/** An entry of the revocation log, and what it needs of a store. */

import { toNumericDate } from "../clock.ts";
import type { RevocationEvent, RevocationType } from "../protocol/revocation-event.ts";

/** Times in milliseconds since 1970. */
export interface Revocation {
  /** Gapless and in the order of commits, within an epoch. */
  readonly number: number;
  readonly type: RevocationType;
  readonly id: string;
  readonly revokedAtMs: number;
  readonly expiresAtMs: number;
}

/** What the one-row state says of the log. */
export interface RevocationState {
  readonly epoch: string;
  /** Of the last entry. */
  readonly revocationNumber: number;
  /** The database's time of this reading. */
  readonly databaseMs: number;
}

export interface RevocationStore {
  /** Entries after a number that are not expired, in order. */
  listAfter(number: number): Promise<readonly Revocation[]>;
}

export function toRevocationEvent({ type, id, revokedAtMs, expiresAtMs }: Revocation): RevocationEvent {
  return { type, id, revoked_at: toNumericDate(revokedAtMs), expires_at: toNumericDate(expiresAtMs) };
}
