/** Attacks on the header: another algorithm, another type, members that point elsewhere, keys by strange names. */

import { createHmac, generateKeyPairSync, sign } from "node:crypto";
import { type Attack, attack } from "./attack.ts";
import { type Forger, makeEcKey, makeKey, type TestKey } from "./forger.ts";

const show = (value: unknown) => JSON.stringify(value) ?? "absent";
const attackerKey = makeKey(4_000_000_000);

/** Nothing that is merely like the accepted algorithm is it. */
const spellings: readonly unknown[] = [
  ...["none", "None", "NONE", "nOnE", "", "none ", " none", "none\u0000", "n\u006fne\n", "ｎｏｎｅ"],
  ...[undefined, null, true, 0, [], {}, ["EdDSA"], ["none", "EdDSA"], { alg: "EdDSA" }],
  ...["eddsa", "EDDSA", "EdDSA ", "EdDSA\u0000", "Ed25519", "Ed448", "EdDSA,none", "ED25519"],
  ...["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
  ...["ES256", "ES384", "ES512", "ES256K", "ML-DSA-44", "dir", "ECDH-ES", "A256GCMKW", "RSA-OAEP"],
];

const algorithms = spellings.flatMap((alg) => [
  attack(`alg ${show(alg)} over a signature of the honest key`, "invalid_algorithm", ({ forge }) =>
    forge({ header: { alg } }),
  ),
]);

const unsigned = ["none", "None", "NONE", "nOnE"].flatMap((alg) => [
  attack(`alg ${alg} and no signature`, "malformed_token", ({ forge }) =>
    forge({ header: { alg }, signer: () => Buffer.alloc(0) }),
  ),
  attack(`alg ${alg} and 64 zeros for a signature`, "invalid_algorithm", ({ forge }) =>
    forge({ header: { alg }, signer: () => Buffer.alloc(64) }),
  ),
]);

const renderings: Readonly<Record<string, (key: TestKey) => Uint8Array | string>> = {
  "raw bytes": ({ x }) => Buffer.from(x, "base64url"),
  "base64url text": ({ x }) => x,
  "hex text": ({ x }) => Buffer.from(x, "base64url").toString("hex"),
  "JWK text": (key) => JSON.stringify(key.jwk()),
  PEM: ({ publicKey }) => publicKey.export({ format: "pem", type: "spki" }),
  "PEM without its last newline": ({ publicKey }) =>
    String(publicKey.export({ format: "pem", type: "spki" })).trim(),
  DER: ({ publicKey }) => publicKey.export({ format: "der", type: "spki" }),
  "base64url of DER": ({ publicKey }) =>
    publicKey.export({ format: "der", type: "spki" }).toString("base64url"),
  thumbprint: ({ kid }) => kid,
  nothing: () => "",
};

function hmac(hash: string, key: Uint8Array | string, length?: number) {
  return (input: string) => {
    const mac = createHmac(hash, key).update(input).digest();
    return length === undefined ? mac : Buffer.concat([mac, Buffer.alloc(length)]).subarray(0, length);
  };
}

const symmetric = Object.entries(renderings).flatMap(([rendering, secretOf]) => [
  ...["HS256", "HS384"].flatMap((alg) => [
    attack(`${alg} keyed with the public key as ${rendering}`, "malformed_token", ({ forge, key }) =>
      forge({ header: { alg }, signer: hmac(`sha${alg.slice(2)}`, secretOf(key)) }),
    ),
    attack(
      `${alg} keyed with the public key as ${rendering}, as long as a signature`,
      "invalid_algorithm",
      ({ forge, key }) => forge({ header: { alg }, signer: hmac(`sha${alg.slice(2)}`, secretOf(key), 64) }),
    ),
  ]),
  attack(`HS512 keyed with the public key as ${rendering}`, "invalid_algorithm", ({ forge, key }) =>
    forge({ header: { alg: "HS512" }, signer: hmac("sha512", secretOf(key)) }),
  ),
  attack(`HS512 keyed with the public key as ${rendering}, called EdDSA`, "signature_failed", (forger) =>
    forger.forge({ signer: hmac("sha512", secretOf(forger.key)) }),
  ),
]);

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
const asymmetric = [
  attack("RS256 of an RSA key", "malformed_token", ({ forge }) =>
    forge({ header: { alg: "RS256" }, signer: (input) => sign("sha256", Buffer.from(input), rsa) }),
  ),
  attack("ES256 of a P-256 key", "invalid_algorithm", ({ forge }) =>
    forge({ header: { alg: "ES256" }, signer: makeEcKey("P-256", "sha256").sign }),
  ),
  attack("ES256K of a secp256k1 key", "invalid_algorithm", ({ forge }) =>
    forge({ header: { alg: "ES256K" }, signer: makeEcKey("secp256k1", "sha256").sign }),
  ),
  attack("ES384 of a P-384 key", "malformed_token", ({ forge }) =>
    forge({ header: { alg: "ES384" }, signer: makeEcKey("P-384", "sha384").sign }),
  ),
];

/** Where these would have a careless verifier go: the issuer's own server, which counts. */
const bait = ({ issuer }: Forger) => `${issuer}/bait`;
const foreignMembers: Readonly<Record<string, (forger: Forger) => unknown>> = {
  jwk: () => attackerKey.jwk(),
  jku: bait,
  x5u: bait,
  x5c: () => ["MIIBHTCB0KADAgECAhQ="],
  x5t: () => "dGh1bWJwcmludA",
  "x5t#S256": () => attackerKey.kid,
  crit: () => ["b64"],
  b64: () => false,
  zip: () => "DEF",
  cty: () => "JWT",
  enc: () => "A256GCM",
  epk: () => attackerKey.jwk(),
  p2c: () => 2_000_000_000,
  url: bait,
  nonce: () => "n",
  iss: ({ issuer }) => issuer,
  KID: ({ key }) => key.kid,
  constructor: () => "x",
  "": () => "",
};

const members = [
  ...Object.entries(foreignMembers).flatMap(([name, makeValue]) => [
    attack(`a header with ${JSON.stringify(name)}`, "malformed_token", (forger) =>
      forger.forge({ header: { [name]: makeValue(forger) } }),
    ),
    attack(`a header with ${JSON.stringify(name)}: null`, "malformed_token", (forger) =>
      forger.forge({ header: { [name]: null } }),
    ),
  ]),
  attack("a header with __proto__", "malformed_token", ({ forge }) =>
    forge({ headerText: (honest) => honest.replace("{", '{"__proto__":{"x":1},') }),
  ),
  attack("a header whose __proto__ has all that it should have", "invalid_algorithm", ({ forge }) =>
    forge({ headerText: (honest) => `{"__proto__":${honest}}` }),
  ),
  attack("an attacker's jwk and the attacker's signature", "malformed_token", ({ forge }) =>
    forge({ header: { jwk: attackerKey.jwk() }, signer: attackerKey.sign }),
  ),
  attack("an attacker's jwk, named by kid too", "malformed_token", ({ forge }) =>
    forge({ header: { kid: attackerKey.kid, jwk: attackerKey.jwk() }, signer: attackerKey.sign }),
  ),
  attack("crit with b64 false, as RFC 7797 has it", "malformed_token", ({ forge }) =>
    forge({ header: { crit: ["b64"], b64: false } }),
  ),
  attack("an empty crit", "malformed_token", ({ forge }) => forge({ header: { crit: [] } })),
  attack("a crit that names what is known", "malformed_token", ({ forge }) =>
    forge({ header: { crit: ["alg", "kid"] } }),
  ),
];

const types = [
  ...[undefined, null, 1, ["at+jwt"], {}, "", "JWT", "jwt", "at", "at+jws", "rt+jwt", "id+jwt"].map((typ) =>
    attack(`typ ${show(typ)}`, "invalid_type", ({ forge }) => forge({ header: { typ } })),
  ),
  ...[
    ...["logout+jwt", "dpop+jwt", "secevent+jwt", "application/jwt", "application/application/at+jwt"],
    ...[" at+jwt", "at+jwt ", "at+jwt;v=1", "at+jwt\u0000", "text/at+jwt", "/at+jwt", "at jwt", "at+jwt,JWT"],
  ].map((typ) => attack(`typ ${show(typ)}`, "invalid_type", ({ forge }) => forge({ header: { typ } }))),
  ...["AT+JWT", "At+Jwt", "application/at+jwt", "Application/AT+JWT"].map((typ) =>
    attack(`typ ${show(typ)}`, "accepted", ({ forge }) => forge({ header: { typ } })),
  ),
];

const kids: Readonly<Record<string, (kid: string) => unknown>> = {
  absent: () => undefined,
  null: () => null,
  "a number": () => 7,
  "in a list": (kid) => [kid],
  "in an object": (kid) => ({ kid }),
  empty: () => "",
  "a path upwards": () => "../../../etc/passwd",
  "a path upwards of 43 characters": () => "../".repeat(14).padEnd(43, "x"),
  "an encoded path upwards": () => "%2e%2e%2f%2e%2e%2fadmin",
  "an encoded path of 43 characters": () => "%2e%2e%2f".repeat(5).slice(0, 43),
  "a URL": ({ length }) => `http://169.254.169.254/latest/meta-data`.padEnd(length, "x"),
  "with a query": (kid) => `${kid.slice(0, 39)}?a=b`,
  "with a fragment": (kid) => `${kid.slice(0, 42)}#`,
  "with a backslash": (kid) => `${kid.slice(0, 42)}\\`,
  "one character short": (kid) => kid.slice(1),
  "one character long": (kid) => `${kid}A`,
  "very long": () => "A".repeat(2000),
  "with a newline after it": (kid) => `${kid}\n`,
  "with a NUL in it": (kid) => `${kid.slice(0, 42)}\u0000`,
  "with a lone surrogate": (kid) => `${kid.slice(0, 42)}\ud800`,
  "an SQL injection": () => `' or 1=1; drop table signing_keys; -- xxxxx`,
};

const strangeKids = Object.entries(kids).map(([name, kidOf]) =>
  attack(`a kid that is ${name}`, "malformed_token", ({ forge, key }) =>
    forge({ header: { kid: kidOf(key.kid) } }),
  ),
);

export const headerAttacks: readonly Attack[] = [
  ...algorithms,
  ...unsigned,
  ...symmetric,
  ...asymmetric,
  ...members,
  ...types,
  ...strangeKids,
];
