/** The Claims Set of an access token, checked after its signature (RFC 9068 §2.2, §4; RFC 8725 §3). */

import { VerificationError } from "./errors.ts";
import type { CheckedOptions } from "./options.ts";

/** What `verify` resolves to. Times are NumericDates. */
export interface VerifiedClaims {
  readonly iss: string;
  readonly sub: string;
  readonly aud: string | readonly string[];
  readonly exp: number;
  readonly iat: number;
  readonly nbf?: number;
  readonly jti: string;
  readonly client_id: string;
  /** Space-separated; empty where the token says none. */
  readonly scope: string;
  /** The session: there wherever revocations are followed. */
  readonly rid?: string;
  readonly auth_time?: number;
  readonly [claim: string]: unknown;
}

const alwaysRequired = ["iss", "sub", "aud", "exp", "iat", "jti", "client_id"];
const textClaims = ["iss", "sub", "jti", "client_id", "scope", "rid"];
const timeClaims = ["exp", "iat", "nbf", "auth_time"];

/**
 * `keyExpiresAtMs`: no token outlives its key.
 * Throws `missing_claim`, `malformed_token` for a claim of the wrong type or a lifetime nobody issues,
 * `invalid_issuer`, `invalid_audience`, `token_expired`, `token_not_active`.
 */
export function checkClaims(
  claims: Readonly<Record<string, unknown>>,
  options: CheckedOptions,
  keyExpiresAtMs: number,
  nowMs: number,
): VerifiedClaims {
  const required = [
    ...alwaysRequired,
    ...(options.revocation === null ? [] : ["rid"]),
    ...options.requiredClaims,
  ];
  const missing = required.find((name) => !Object.hasOwn(claims, name));
  if (missing !== undefined) throw new VerificationError("missing_claim", { claim: missing });
  const isWellTyped =
    textClaims.every((name) => claims[name] === undefined || typeof claims[name] === "string") &&
    timeClaims.every((name) => claims[name] === undefined || isNumericDate(claims[name]));
  const { iss, aud } = claims;
  const audiences: readonly unknown[] = Array.isArray(aud) ? aud : [aud];
  if (!isWellTyped || !audiences.every((audience) => typeof audience === "string")) {
    throw new VerificationError("malformed_token");
  }
  if (iss !== options.issuer) throw new VerificationError("invalid_issuer");
  if (!audiences.includes(options.audience)) throw new VerificationError("invalid_audience");
  const verified = { scope: "", ...claims } as unknown as VerifiedClaims;
  checkLifetime(verified, options, keyExpiresAtMs);
  checkTimes(verified, options, nowMs);
  return verified;
}

function isNumericDate(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function checkLifetime({ exp, iat }: VerifiedClaims, options: CheckedOptions, keyExpiresAtMs: number): void {
  const lifetimeSeconds = exp - iat;
  const isPlausible = lifetimeSeconds > 0 && lifetimeSeconds <= options.maxLifetimeSeconds;
  if (!isPlausible || exp * 1000 > keyExpiresAtMs) throw new VerificationError("malformed_token");
}

/** Asked again on every hit of the result cache. */
export function checkTimes(
  { exp, iat, nbf = iat }: VerifiedClaims,
  { clockToleranceSeconds }: CheckedOptions,
  nowMs: number,
): void {
  const nowSeconds = nowMs / 1000;
  if (nowSeconds >= exp + clockToleranceSeconds) throw new VerificationError("token_expired");
  if (Math.max(iat, nbf) > nowSeconds + clockToleranceSeconds)
    throw new VerificationError("token_not_active");
}
