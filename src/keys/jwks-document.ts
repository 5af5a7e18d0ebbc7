/** The JWK Set and the single JWKs as they go out: the same keys give the same bytes on every instance (RFC 7517). */

import { secondMs } from "../clock.ts";
import type { Ed25519PublicJwk } from "../protocol/jwk.ts";
import { expiryMs, type PublishedKey } from "./published-key.ts";

/** Stock consumers ignore `exp`; ours takes no token past it. */
export function toJwk(key: PublishedKey): Ed25519PublicJwk {
  return {
    kty: "OKP",
    crv: "Ed25519",
    x: key.x,
    kid: key.kid,
    alg: key.alg,
    use: "sig",
    exp: Math.floor(expiryMs(key) / secondMs),
  };
}

/** JSON text of the set, sorted by `kid`. */
export function jwksText(keys: readonly PublishedKey[]): string {
  const sorted = [...keys].sort((a, b) => (a.kid < b.kid ? -1 : 1));
  return JSON.stringify({ keys: sorted.map(toJwk) });
}
