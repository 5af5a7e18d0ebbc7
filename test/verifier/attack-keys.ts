/** What an issuer may answer for a kid, and which of it is no key to verify with. */

import { createPublicKey, verify } from "node:crypto";
import { thumbprint } from "../../src/keys/signing-key.ts";
import type { Code } from "./attack.ts";
import { makeKey, type TestKey } from "./forger.ts";
import type { KeyAnswer } from "./small-issuer.ts";

export interface KeyAttack {
  readonly name: string;
  readonly outcome: Code | "accepted";
  /** For a token of this key under its kid. */
  answer(key: TestKey, nowSeconds: number): KeyAnswer;
}

const served = (
  name: string,
  outcome: KeyAttack["outcome"],
  jwk: (key: TestKey, now: number) => unknown,
) => ({
  name,
  outcome,
  answer: (key: TestKey, now: number) => ({ jwk: jwk(key, now) }),
});
const answered = (name: string, outcome: KeyAttack["outcome"], answer: KeyAnswer) => ({
  name,
  outcome,
  answer: () => answer,
});

const otherKey = makeKey(4_000_000_000);
const ofBytes = (count: number) => Buffer.alloc(count, 9).toString("base64url");

/** Members that make of the honest key none. */
const spoilt: readonly (readonly [string, Readonly<Record<string, unknown>>])[] = [
  ["with its private part", { d: ofBytes(32) }],
  ["with an empty private part", { d: "" }],
  ["with null for a private part", { d: null }],
  ["for encryption", { use: "enc" }],
  ["for nothing", { use: "" }],
  ["for another algorithm", { alg: "ES256" }],
  ["for an algorithm that the service did not choose", { alg: "Ed25519" }],
  ["for HS256", { alg: "HS256" }],
  ["for none", { alg: "none" }],
  ["of another type", { kty: "EC" }],
  ["of no type", { kty: undefined }],
  ["of a secret's type", { kty: "oct", k: ofBytes(32) }],
  ["of X25519", { crv: "X25519" }],
  ["of Ed448", { crv: "Ed448" }],
  ["of no curve", { crv: undefined }],
  ["without x", { x: undefined }],
  ["with a number for x", { x: 9 }],
  ["with an empty x", { x: "" }],
  ["with another x", { x: otherKey.x }],
  ["with another kid", { kid: otherKey.kid }],
  ["with a number for a kid", { kid: 9 }],
  ["without a kid", { kid: undefined }],
  ["with a text for its end", { exp: "soon" }],
  ["with null for its end", { exp: null }],
];

export const keyAttacks: readonly KeyAttack[] = [
  served("the honest key", "accepted", (key) => key.jwk()),
  served("the honest key, of no stated end", "accepted", (key) => key.jwk({ exp: undefined })),
  served("the honest key, of no stated use or algorithm", "accepted", (key) =>
    key.jwk({ use: undefined, alg: undefined }),
  ),
  served("the honest key in its last second", "accepted", (key, now) => key.jwk({ exp: now + 1 })),
  ...spoilt.map(([name, members]) => served(`a key ${name}`, "unknown_key", (key) => key.jwk(members))),
  served("a key at its end", "unknown_key", (key, now) => key.jwk({ exp: now })),
  served("a key long past its end", "unknown_key", (key) => key.jwk({ exp: 1 })),
  served("a key that ended before 1970", "unknown_key", (key) => key.jwk({ exp: -1 })),
  served("another key altogether", "unknown_key", () => otherKey.jwk()),
  served("a key set", "unknown_key", (key) => ({ keys: [key.jwk()] })),
  served("a list", "unknown_key", (key) => [key.jwk()]),
  served("null", "unknown_key", () => null),
  served("a text", "unknown_key", (key) => JSON.stringify(key.jwk())),
  answered("no JSON", "unknown_key", { status: 200, body: "<html>" }),
  answered("no such key", "unknown_key", { status: 404 }),
  answered("a revoked key", "revoked_key", { status: 410 }),
  answered("a fault", "keys_unavailable", { status: 500 }),
  answered("too many requests", "keys_unavailable", { status: 429 }),
  answered("nothing", "keys_unavailable", { status: 204 }),
  answered("more than a key can be", "keys_unavailable", { status: 200, body: " ".repeat(300_000) }),
];

/** Keys whose kid is the thumbprint of what cannot be an Ed25519 key, and that nobody can have signed with. */
export const misshapen: readonly (readonly [string, string])[] = [
  ["of 31 bytes", ofBytes(31)],
  ["of 33 bytes", ofBytes(33)],
  ["of 64 bytes", ofBytes(64)],
  ["of no bytes", ""],
  ["that is no base64url", "!".repeat(43)],
];

const lowOrderHex = [
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/** The points of low order in all their encodings, either sign: under them a signature needs no private key. */
export const lowOrderKeys: readonly string[] = lowOrderHex.flatMap((hex) => {
  const bytes = Buffer.from(hex, "hex");
  const negative = Buffer.from(bytes);
  negative[31] = (negative[31] ?? 0) | 0x80;
  return [bytes.toString("base64url"), negative.toString("base64url")];
});

/** R is the identity and S nothing: good for one message in eight at least, and for each under the identity. */
export const lowOrderSignature = Buffer.concat([Buffer.from([1]), Buffer.alloc(63)]);

/** Whether the signature is good, by a library that takes such keys. */
export function isGoodUnder(x: string, token: string): boolean {
  const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  const [, input = "", signature = ""] = /^(.*)\.([^.]*)$/.exec(token) ?? [];
  return verify(null, Buffer.from(input), key, Buffer.from(signature, "base64url"));
}

export const jwkOf = (x: string) => ({ kty: "OKP", crv: "Ed25519", x, kid: thumbprint(x), alg: "EdDSA" });
