/** Makes tokens from their parts, honest or not, under keys that the test has. */

import { createHash, type KeyObject, randomUUID, sign } from "node:crypto";
import { thumbprint } from "../../src/keys/signing-key.ts";
import { makeKeyPair } from "../support/key-pair.ts";

export type Members = Readonly<Record<string, unknown>>;
/** An object to be encoded, or a text or bytes that stand for themselves. */
export type Part = Members | string | Uint8Array;
export type Signer = (input: string) => Uint8Array;

export interface TestKey {
  readonly kid: string;
  readonly x: string;
  readonly publicKey: KeyObject;
  readonly sign: Signer;
  /** As an issuer publishes it, with these members changed. */
  jwk(changes?: Members): Members;
}

export function makeKey(keyEndSeconds: number): TestKey {
  const { privateKey, publicKey, jwk } = makeKeyPair("Ed25519");
  const x = String(jwk.x);
  const kid = thumbprint(x);
  return {
    kid,
    x,
    publicKey,
    sign: (input) => sign(null, Buffer.from(input), privateKey),
    jwk: (changes = {}) => ({
      kty: "OKP",
      crv: "Ed25519",
      x,
      kid,
      alg: "EdDSA",
      use: "sig",
      exp: keyEndSeconds,
      ...changes,
    }),
  };
}

/** A P-256 key and its JWS signatures, as ES256 has them. */
export function makeEcKey(namedCurve: "P-256" | "secp256k1" | "P-384", hash: string) {
  const { privateKey, jwk } = makeKeyPair(namedCurve);
  const { x, y } = jwk;
  const members = `{"crv":"${namedCurve}","kty":"EC","x":"${x}","y":"${y}"}`;
  const kid = createHash("sha256").update(members).digest("base64url");
  const signer: Signer = (input) =>
    sign(hash, Buffer.from(input), { key: privateKey, dsaEncoding: "ieee-p1363" });
  return { kid, jwk: { kty: "EC", crv: namedCurve, x, y, kid, alg: "ES256", use: "sig" }, sign: signer };
}

export function encode(part: Part): string {
  const isRaw = typeof part === "string" || part instanceof Uint8Array;
  return Buffer.from(isRaw ? part : JSON.stringify(part)).toString("base64url");
}

export function compact(header: Part, claims: Part, signer: Signer): string {
  const input = `${encode(header)}.${encode(claims)}`;
  return `${input}.${Buffer.from(signer(input)).toString("base64url")}`;
}

export const parts = (token: string) => token.split(".") as [string, string, string];

export interface Changes {
  /** Members set over the honest ones; `undefined` takes one away. */
  readonly header?: Members;
  readonly claims?: Members;
  /** The whole part instead, from its honest JSON. */
  readonly headerText?: (honest: string) => string | Uint8Array;
  readonly claimsText?: (honest: string) => string | Uint8Array;
  readonly signer?: Signer;
}

export interface Forger {
  readonly issuer: string;
  readonly key: TestKey;
  readonly nowSeconds: number;
  /** A token of its own each time: no cache knows it. */
  honest(): string;
  /** The honest token but for these changes, signed by the honest key where they don't say otherwise. */
  forge(changes: Changes): string;
}

/** How far the honest key's end lies ahead. */
export const keyLifeSeconds = 3000;
export const audience = "https://api.example";
export const sessionId = "6f0e8f3c-2ac6-4f83-9d0f-3f0d0a7f5b11";

export function createForger(issuer: string, key: TestKey, nowSeconds: number): Forger {
  const header = { alg: "EdDSA", typ: "at+jwt", kid: key.kid };
  const claims = () => ({
    iss: issuer,
    sub: "8e4b7a54-6c1c-4b53-9d1e-7f6c2f1d0a11",
    aud: audience,
    exp: nowSeconds + 600,
    iat: nowSeconds,
    nbf: nowSeconds,
    jti: randomUUID(),
    client_id: "first-party",
    scope: "orders:read orders:write",
    rid: sessionId,
    auth_time: nowSeconds,
  });

  function forge(changes: Changes): string {
    const { headerText, claimsText, signer = key.sign } = changes;
    const headerJson = JSON.stringify({ ...header, ...changes.header });
    const claimsJson = JSON.stringify({ ...claims(), ...changes.claims });
    return compact(headerText?.(headerJson) ?? headerJson, claimsText?.(claimsJson) ?? claimsJson, signer);
  }

  return { issuer, key, nowSeconds, honest: () => forge({}), forge };
}
