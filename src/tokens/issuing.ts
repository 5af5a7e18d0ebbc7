/** What every issuing statement is given and gives back, whatever the grant. */

import type { KeyOffer } from "../keys/key-ring.ts";

/** Durations in milliseconds, the same on every instance. */
export interface IssuingSettings {
  readonly instanceId: string;
  readonly propagationDelayMs: number;
  readonly accessTokenTtlMs: number;
  readonly verifyGraceMs: number;
}

/** The access token to record, and what the statement chooses its key from. */
export interface TokenRequest {
  readonly jti: string;
  readonly clientId: string;
  readonly audience: string;
  readonly scope: string;
  readonly offer: KeyOffer;
  /** The instance's estimate of Postgres's clock; over 2 s off, nothing is issued. */
  readonly nowEstimateMs: number;
}

export type IssueOutcome =
  | {
      readonly outcome: "issued";
      readonly kid: string;
      readonly mature: boolean;
      readonly issuedAtMs: number;
    }
  /** The authority is not what it was when it was read: disabled, changed, ended. */
  | { readonly outcome: "authority_changed" }
  | { readonly outcome: "clock_differs" }
  | { readonly outcome: "no_signing_key" };
