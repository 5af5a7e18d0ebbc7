/**
 * The private half of a signing key. It is made here, used here, and exists nowhere else (invariant I4).
 *
 * Both calls are the ones measured to leave nothing behind: `generateKeyPairSync` on the main thread (WebCrypto's
 * leaves the seed's SHA-512 schedule on a pool thread's stack), and `crypto.sign` (jose would export the key).
 */

import {
  createHash,
  createPublicKey,
  generateKeyPairSync,
  type JsonWebKey,
  type KeyObject,
  sign,
  verify,
} from "node:crypto";
import { type AccessTokenClaims, type AccessTokenHeader, accessTokenType } from "../protocol/access-token.ts";
import { type SigningAlg, thumbprintInput } from "../protocol/jwk.ts";

export interface SigningKey {
  /** RFC 7638 thumbprint of the public half. */
  readonly kid: string;
  /** The public half: the JWK member `x` (RFC 8037 §2). */
  readonly x: string;
  readonly alg: SigningAlg;
  /** The compact JWS over exactly these claims (RFC 7515 §7.1, RFC 9068 §2.1). Throws once destroyed. */
  signAccessToken(claims: AccessTokenClaims): string;
  /** Drops the private half. The memory is wiped when it is next collected: see `collectGarbage`. */
  destroy(): void;
}

/** RFC 7638 thumbprint of an Ed25519 key, 43 characters. */
export function thumbprint(x: string): string {
  return createHash("sha256").update(thumbprintInput(x)).digest("base64url");
}

/**
 * The public half comes with the generation, not by `export` after it: there Node 20 hangs for good where the garbage
 * collector runs meanwhile, for the export holds the key's lock, and what is left of the generation waits for it.
 */
function generateKeyPair(): { readonly publicKey: JsonWebKey; readonly privateKey: KeyObject } {
  // As documented for `generateKeyPair`; its types know of no JWK.
  const options = { publicKeyEncoding: { format: "jwk" } } as object;
  const pair = generateKeyPairSync("ed25519", options) as unknown as ReturnType<typeof generateKeyPair>;
  // What the hash of the seed left on the stack, which is the seed in another form, that of another overwrites (seen).
  generateKeyPairSync("ed25519", options);
  return pair;
}

/** Makes a keypair; the private half lies in OpenSSL's secure heap where the process was started with one. */
export function generateSigningKey(alg: SigningAlg): SigningKey {
  const pair = generateKeyPair();
  const { x } = pair.publicKey;
  if (x === undefined) throw new Error("the public key has no x");
  let privateKey: KeyObject | undefined = pair.privateKey;
  const kid = thumbprint(x);
  return {
    kid,
    x,
    alg,
    signAccessToken(claims) {
      if (privateKey === undefined) throw new Error("this signing key was destroyed");
      const signingInput = accessTokenSigningInput(alg, kid, claims);
      const signature = sign(null, Buffer.from(signingInput), privateKey);
      return `${signingInput}.${signature.toString("base64url")}`;
    },
    destroy() {
      privateKey = undefined;
    },
  };
}

/** What a signature is made over: header and claims, as they stand in the compact JWS (RFC 7515 §5.1). */
export function accessTokenSigningInput(alg: SigningAlg, kid: string, claims: AccessTokenClaims): string {
  const header: AccessTokenHeader = { alg, typ: accessTokenType, kid };
  return `${encodeJson(header)}.${encodeJson(claims)}`;
}

/** Whether the key whose public half is `x` signed exactly this. Not checked: whether the key is a good one. */
export function isSignedBy(x: string, signingInput: string, signature: Uint8Array): boolean {
  const publicKey = createPublicKey({ format: "jwk", key: { kty: "OKP", crv: "Ed25519", x } });
  return verify(null, Buffer.from(signingInput), publicKey, signature);
}

function encodeJson(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
