/**
 * Keypairs of the tests. The public half comes with the generation, as a JWK: to export it after it can hang Node 20
 * for good, see `src/keys/signing-key.ts`.
 */

import { createPublicKey, generateKeyPairSync, type JsonWebKey, type KeyObject } from "node:crypto";

interface KeyPair {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  readonly jwk: JsonWebKey;
}

export function makeKeyPair(crv: "Ed25519" | "P-256" | "P-384" | "secp256k1"): KeyPair {
  // As documented for `generateKeyPair`; its types know of no JWK.
  const options = { namedCurve: crv, publicKeyEncoding: { format: "jwk" } } as object;
  const made: unknown =
    crv === "Ed25519"
      ? generateKeyPairSync("ed25519", options)
      : generateKeyPairSync("ec", options as { namedCurve: string });
  const { privateKey, publicKey: jwk } = made as { privateKey: KeyObject; publicKey: JsonWebKey };
  return { privateKey, publicKey: createPublicKey({ key: jwk, format: "jwk" }), jwk };
}
