/** A key as an issuer serves it, believed only where it is what its kid says (RFC 7517, RFC 7638, RFC 8037). */

import type { CryptoKey, JWK } from "jose";
import { calculateJwkThumbprint } from "jose/jwk/thumbprint";
import { importJWK } from "jose/key/import";
import { isLowOrderPoint, kidPattern } from "../protocol/jwk.ts";
import type { VerifierAlgorithm } from "./options.ts";

export interface PublicKey {
  readonly kid: string;
  readonly algorithm: VerifierAlgorithm;
  readonly key: CryptoKey;
  /** The key's end in milliseconds since 1970, where the issuer tells it. */
  readonly expiresAtMs: number;
}

const typeOf: Record<VerifierAlgorithm, { kty: string; crv: string }> = {
  EdDSA: { kty: "OKP", crv: "Ed25519" },
  Ed25519: { kty: "OKP", crv: "Ed25519" },
  ES256: { kty: "EC", crv: "P-256" },
};

/**
 * Undefined for whatever is not a signing key of an accepted algorithm whose thumbprint is its kid, of low order, or
 * with a private part beside it.
 */
export async function readPublicKey(
  jwk: unknown,
  algorithms: readonly VerifierAlgorithm[],
): Promise<PublicKey | undefined> {
  if (typeof jwk !== "object" || jwk === null) return undefined;
  const { kid, kty, crv, x, y, alg, use, exp, d } = jwk as Record<string, unknown>;
  if (typeof kid !== "string" || !kidPattern.test(kid) || typeof x !== "string") return undefined;
  if ((use !== undefined && use !== "sig") || d !== undefined) return undefined;
  if (exp !== undefined && typeof exp !== "number") return undefined;
  const algorithm = algorithms.find(
    (accepted) =>
      (alg ?? accepted) === accepted && typeOf[accepted].kty === kty && typeOf[accepted].crv === crv,
  );
  if (algorithm === undefined) return undefined;
  const material: JWK = typeof y === "string" ? { ...typeOf[algorithm], x, y } : { ...typeOf[algorithm], x };
  try {
    if ((await calculateJwkThumbprint(material)) !== kid) return undefined;
    if (kty === "OKP" && isLowOrderPoint(decodeX(x))) return undefined;
    const key = (await importJWK(material, algorithm)) as CryptoKey;
    const expiresAtMs = exp === undefined ? Number.POSITIVE_INFINITY : exp * 1000;
    return { kid, algorithm, key, expiresAtMs };
  } catch {
    return undefined;
  }
}

function decodeX(x: string): Uint8Array {
  const binary = atob(x.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}
