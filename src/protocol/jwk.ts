/** The JWK of an Ed25519 public key, and what a verifier may not take for one (RFC 7517, RFC 8037, RFC 7638). */

/** JWS `alg` values for Ed25519: RFC 8037's name, which every consumer knows, and RFC 9864's. */
export type SigningAlg = "EdDSA" | "Ed25519";

/** One member of the published JWK Set. `exp` is the key's end in seconds since 1970; stock consumers ignore it. */
export interface Ed25519PublicJwk {
  readonly kty: "OKP";
  readonly crv: "Ed25519";
  readonly x: string;
  readonly kid: string;
  readonly alg: SigningAlg;
  readonly use: "sig";
  readonly exp: number;
}

/** A `kid` here is always an RFC 7638 SHA-256 thumbprint: 43 characters of base64url. */
export const kidPattern = /^[A-Za-z0-9_-]{43}$/;

/** The bytes that RFC 7638 §3 hashes: required members only, in lexical order, no white space. */
export function thumbprintInput(x: string): string {
  return `{"crv":"Ed25519","kty":"OKP","x":"${x}"}`;
}

/**
 * The y coordinates of the eight points of low order, as little-endian hex with the sign bit cleared, and the
 * non-canonical spellings (y >= 2^255 - 19) of those. Under such a key anyone can make a valid signature.
 */
const lowOrderEncodings: ReadonlySet<string> = new Set([
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]);

/** Whether 32 bytes encode a point of low order, in any spelling that a lenient decoder takes. */
export function isLowOrderPoint(publicKey: Uint8Array): boolean {
  const withoutSign = Uint8Array.from(publicKey, (byte, index) => (index === 31 ? byte & 0x7f : byte));
  const hex = Array.from(withoutSign, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return lowOrderEncodings.has(hex);
}
