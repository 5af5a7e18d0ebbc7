/** The JWT access token profile: its JOSE header, its Claims Set and its bounds (RFC 9068). */

import type { SigningAlg } from "./jwk.ts";

export const accessTokenType = "at+jwt";

/** A longer compact serialization is never issued; a verifier refuses at four times this. */
export const accessTokenMaxBytes = 1024;

export interface AccessTokenHeader {
  readonly alg: SigningAlg;
  readonly typ: typeof accessTokenType;
  readonly kid: string;
}

/** Times are NumericDates: whole seconds since 1970 (RFC 7519 §2). */
export interface AccessTokenClaims {
  readonly iss: string;
  /** Account id, or the `client_id` itself under the client credentials grant. */
  readonly sub: string;
  readonly aud: string;
  readonly exp: number;
  readonly iat: number;
  readonly nbf: number;
  readonly jti: string;
  readonly client_id: string;
  /** Space-separated, possibly empty (RFC 6749 §3.3). */
  readonly scope: string;
  /** The session this token belongs to: what a revocation event of type `session` names. */
  readonly rid: string;
  /** When a person signed in; absent under the client credentials grant. */
  readonly auth_time?: number;
}
