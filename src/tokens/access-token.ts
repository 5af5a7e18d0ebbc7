/** The access tokens issued here: their claims, and the bound on their size (RFC 9068 §2). */

import { randomBytes } from "node:crypto";
import { secondMs, toNumericDate } from "../clock.ts";
import { type AccessTokenClaims, accessTokenMaxBytes } from "../protocol/access-token.ts";

/** What a token says, apart from when and under which key: that is Postgres's to say. */
export interface AccessTokenGrant {
  readonly issuer: string;
  readonly subject: string;
  readonly audience: string;
  readonly clientId: string;
  readonly scope: string;
  readonly sessionId: string;
  readonly jti: string;
  /** When a person signed in, milliseconds since 1970. */
  readonly authTimeMs?: number;
}

/** 128 random bits, 22 characters. */
export function createJti(): string {
  return randomBytes(16).toString("base64url");
}

/** `issuedAtMs` is the issuing statement's reading of Postgres's clock (I7). */
export function accessTokenClaims(
  grant: AccessTokenGrant,
  issuedAtMs: number,
  ttlMs: number,
): AccessTokenClaims {
  const iat = toNumericDate(issuedAtMs);
  const claims: AccessTokenClaims = {
    iss: grant.issuer,
    sub: grant.subject,
    aud: grant.audience,
    exp: iat + Math.floor(ttlMs / secondMs),
    iat,
    nbf: iat,
    jti: grant.jti,
    client_id: grant.clientId,
    scope: grant.scope,
    rid: grant.sessionId,
  };
  if (grant.authTimeMs === undefined) return claims;
  return { ...claims, auth_time: Math.min(toNumericDate(grant.authTimeMs), iat) };
}

const headerCharacters = Math.ceil(
  (JSON.stringify({ alg: "Ed25519", typ: "at+jwt", kid: "k".repeat(43) }).length * 4) / 3,
);
const signatureCharacters = 86;

/** Whether the token stays within 1 KiB, known before anything is issued. */
export function fitsAccessToken(grant: AccessTokenGrant): boolean {
  const claims = accessTokenClaims(grant, 0, 0);
  const timesCharacters = 4 * "9999999999".length;
  const claimsBytes = Buffer.byteLength(JSON.stringify(claims)) + timesCharacters;
  return (
    headerCharacters + 1 + Math.ceil((claimsBytes * 4) / 3) + 1 + signatureCharacters <= accessTokenMaxBytes
  );
}
