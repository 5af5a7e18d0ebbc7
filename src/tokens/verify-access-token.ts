/** The server's own verification of its access tokens: form, signature, claims (RFC 9068 §4, RFC 8725). */

import type { CryptoKey } from "jose";
import { compactVerify } from "jose/jws/compact/verify";
import { importJWK } from "jose/key/import";
import { type Clock, secondMs } from "../clock.ts";
import type { Directory, KeyLookup } from "../keys/directory.ts";
import { expiryMs, type PublishedKey } from "../keys/published-key.ts";
import { type AccessTokenClaims, accessTokenType } from "../protocol/access-token.ts";
import { decodeCompactJws } from "../protocol/compact-jws.ts";
import type { SigningAlg } from "../protocol/jwk.ts";
import { requireCurrentKeys } from "./require-current-keys.ts";

export interface VerifiedAccessToken {
  readonly kid: string;
  readonly claims: AccessTokenClaims;
}

/**
 * Undefined where the token is not one that a key of this fleet signed and that is valid now. Not checked: whether it
 * was issued, revoked, and for whom it is. Throws `temporarily_unavailable` where its key may be one that this instance
 * has had no chance to read: it would call a valid token none, and a revocation of it would come to nothing.
 */
export type VerifyAccessToken = (token: string) => Promise<VerifiedAccessToken | undefined>;

export interface VerifyAccessTokenDependencies {
  readonly issuer: string;
  readonly alg: SigningAlg;
  readonly directory: Pick<Directory, "find">;
  /** Whether the directory has every key that can have signed; where not, it is read first. */
  isCurrent(): Promise<boolean>;
  readonly clock: Clock;
  /** How far `iat` and `nbf` may lie ahead of this instance's estimate of Postgres's clock. */
  readonly clockToleranceMs: number;
}

const headerMembers = ["alg", "kid", "typ"];

export function createVerifyAccessToken(deps: VerifyAccessTokenDependencies): VerifyAccessToken {
  const { alg, directory, clock, issuer, clockToleranceMs } = deps;
  const publicKeys = new WeakMap<PublishedKey, Promise<CryptoKey | Uint8Array>>();

  function publicKeyOf(key: PublishedKey): Promise<CryptoKey | Uint8Array> {
    const imported = publicKeys.get(key) ?? importJWK({ kty: "OKP", crv: "Ed25519", x: key.x }, alg);
    publicKeys.set(key, imported);
    return imported;
  }

  async function find(kid: string): Promise<KeyLookup> {
    const found = directory.find(kid);
    if (found.status !== "unknown") return found;
    await requireCurrentKeys(deps.isCurrent);
    return directory.find(kid);
  }

  return async (token) => {
    const decoded = decodeCompactJws(token);
    if (decoded === undefined || !isHeader(decoded.header, alg)) return undefined;
    const kid = String(decoded.header["kid"]);
    const found = await find(kid);
    if (found.status !== "published" || !areClaims(decoded.claims)) return undefined;
    const isSigned = await compactVerify(token, await publicKeyOf(found.key), { algorithms: [alg] }).then(
      () => true,
      () => false,
    );
    const nowMs = clock.nowMs();
    if (!isSigned || !areTimely(decoded.claims, found.key, nowMs, nowMs + clockToleranceMs)) return undefined;
    return decoded.claims.iss === issuer ? { kid, claims: knownClaims(decoded.claims) } : undefined;
  };
}

function isHeader(header: Readonly<Record<string, unknown>>, alg: SigningAlg): boolean {
  const hasOnlyOurs = Object.keys(header).every((name) => headerMembers.includes(name));
  return hasOnlyOurs && header["alg"] === alg && header["typ"] === accessTokenType;
}

const textClaims = ["iss", "sub", "aud", "jti", "client_id", "scope", "rid"] as const;
const timeClaims = ["exp", "iat", "nbf"] as const;

function areClaims(claims: object): claims is AccessTokenClaims {
  const given = claims as Readonly<Record<string, unknown>>;
  const { auth_time = 0 } = given;
  return (
    textClaims.every((name) => typeof given[name] === "string") &&
    timeClaims.every((name) => Number.isSafeInteger(given[name])) &&
    Number.isSafeInteger(auth_time)
  );
}

/** What is judged, and nothing that a stolen key may have added beside it. */
function knownClaims(claims: AccessTokenClaims): AccessTokenClaims {
  const names: readonly string[] = [...textClaims, ...timeClaims, "auth_time"];
  return Object.fromEntries(
    Object.entries(claims).filter(([name]) => names.includes(name)),
  ) as unknown as AccessTokenClaims;
}

function areTimely(
  { exp, iat, nbf }: AccessTokenClaims,
  key: PublishedKey,
  nowMs: number,
  latestMs: number,
): boolean {
  const hasBegun = Math.max(iat, nbf) * secondMs <= latestMs;
  return hasBegun && exp * secondMs > nowMs && exp * secondMs <= expiryMs(key);
}
