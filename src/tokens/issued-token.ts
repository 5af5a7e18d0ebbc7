/** The record of issued tokens: what tells a token that was issued from one that a stolen key signed. */

import { secondMs, toNumericDate } from "../clock.ts";
import type { VerifiedAccessToken } from "./verify-access-token.ts";

/** A row of `issued_tokens`, with the session it names. Times in milliseconds since 1970. */
export interface IssuedToken {
  readonly kid: string;
  readonly sessionId: string;
  readonly clientId: string;
  readonly audience: string;
  readonly scope: string;
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
  readonly isRevoked: boolean;
  /** Null where the session's row is gone. */
  readonly session: {
    readonly accountId: string | null;
    readonly authTimeMs: number;
    readonly isAlive: boolean;
  } | null;
}

/** One reading of the record, in one statement with what it takes to judge that there is none. */
export interface TokenReading {
  readonly record: IssuedToken | undefined;
  /** Every token issued since is on record. */
  readonly completeSinceMs: number;
  readonly nowMs: number;
}

export interface IssuedTokenStore {
  read(jti: string): Promise<TokenReading>;
}

/** `forged`: a genuine signature over what was never issued is proof that the key is in other hands. */
export type TokenStanding = "active" | "inactive" | "forged";

/** Judges a token whose signature is genuine by its record. */
export function judgeByRecord(token: VerifiedAccessToken, reading: TokenReading): TokenStanding {
  const { record, completeSinceMs, nowMs } = reading;
  const { claims } = token;
  if (record === undefined) {
    // A second more, for iat is rounded down.
    const wouldBeOnRecord = (claims.iat - 1) * secondMs >= completeSinceMs;
    return wouldBeOnRecord ? "forged" : "inactive";
  }
  if (!isAsRecorded(token, record)) return "forged";
  const isAlive = record.session?.isAlive === true && !record.isRevoked;
  return isAlive && claims.exp * secondMs > nowMs ? "active" : "inactive";
}

function isAsRecorded({ kid, claims }: VerifiedAccessToken, record: IssuedToken): boolean {
  const { session } = record;
  return (
    kid === record.kid &&
    claims.rid === record.sessionId &&
    claims.client_id === record.clientId &&
    claims.aud === record.audience &&
    claims.scope === record.scope &&
    claims.iat === toNumericDate(record.issuedAtMs) &&
    claims.nbf === claims.iat &&
    claims.exp <= toNumericDate(record.expiresAtMs) &&
    (session === null ||
      (claims.sub === (session.accountId ?? record.clientId) &&
        claims.auth_time === authTime(session, claims.iat)))
  );
}

/** As `accessTokenClaims` makes it: of a person, and never after the token. */
function authTime(session: NonNullable<IssuedToken["session"]>, iat: number): number | undefined {
  return session.accountId === null ? undefined : Math.min(toNumericDate(session.authTimeMs), iat);
}
