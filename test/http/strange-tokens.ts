/** Access tokens that are no good, each for one reason, beside one for none: what every endpoint has to refuse. */

import { createHmac, sign } from "node:crypto";
import { decodeJwt, decodeProtectedHeader } from "jose";
import { createInstance } from "../../src/fleet/instance.ts";
import { sealPublication } from "../../src/keys/published-key.ts";
import { thumbprint } from "../../src/keys/signing-key.ts";
import { createInstanceStore } from "../../src/postgres/instances.ts";
import { createPublishedKeyStore } from "../../src/postgres/signing-keys.ts";
import { createJti } from "../../src/tokens/access-token.ts";
import { eventually, testSecrets } from "../support/accounts.ts";
import { makeKeyPair } from "../support/key-pair.ts";
import type { EndpointFixture } from "./endpoint-fixture.ts";

type Members = Readonly<Record<string, unknown>>;
type Part = object | string;

/** The compact JWS over exactly these texts. */
function compact(header: Part, claims: Part, makeSignature: (input: string) => Buffer): string {
  const encode = (part: Part) =>
    Buffer.from(typeof part === "string" ? part : JSON.stringify(part)).toString("base64url");
  const input = `${encode(header)}.${encode(claims)}`;
  return `${input}.${makeSignature(input).toString("base64url")}`;
}

function makeKey() {
  const { privateKey, jwk } = makeKeyPair("Ed25519");
  const x = String(jwk.x);
  return { x, kid: thumbprint(x), sign: (input: string) => sign(null, Buffer.from(input), privateKey) };
}

export interface Forger {
  /** A good token of the session that this is for, and one of another. */
  readonly good: string;
  readonly other: string;
  readonly refreshToken: string;
  readonly x: string;
  /** Signed by a key that the fleet publishes, with these changes to a good token's claims and header. */
  forge(claims?: Members, header?: Members): string;
  /** The same, and on record as if it had been issued just so. */
  forgeOnRecord(claims?: Members, header?: Members): Promise<string>;
}

/** Publishes a key of which the test has the private half, and waits until the instance serves it. */
export async function createForger(fixture: EndpointFixture): Promise<Forger> {
  const { pool } = fixture.database;
  const key = makeKey();
  const thief = createInstance();
  await createInstanceStore(pool).register(thief);
  // Again where the reading of the clock has aged.
  await eventually(async () => {
    const { rows } = await pool.query(
      "select floor(extract(epoch from clock_timestamp()) * 1000)::float as now",
    );
    const nowMs = Number(rows[0].now);
    const times = { publishedAtMs: nowMs, activatesAtMs: nowMs };
    const ends = { retiresAtMs: nowMs + 3_600_000, expiresAtMs: nowMs + 7_200_000 };
    const row = { kid: key.kid, x: key.x, alg: "EdDSA", instanceId: thief.id, ...times, ...ends } as const;
    const conditions = { maxSigners: 16, madeAtMs: row.publishedAtMs };
    const seal = sealPublication(testSecrets, row);
    return (await createPublishedKeyStore(pool).publish(row, seal, conditions)).outcome === "published";
  });
  await eventually(async () => (await fixture.send("GET", `/.well-known/jwks/${key.kid}`)).status === 200);
  const tokens = await fixture.login();
  const { access_token: other } = await fixture.login();
  const goodClaims = decodeJwt(tokens.access_token);

  function assemble(claims: Members, header: Members) {
    const all = { ...goodClaims, jti: createJti(), ...claims };
    const token = compact({ alg: "EdDSA", typ: "at+jwt", kid: key.kid, ...header }, all, key.sign);
    return { token, claims: all };
  }

  return {
    good: tokens.access_token,
    other,
    refreshToken: tokens.refresh_token,
    x: key.x,
    forge: (claims = {}, header = {}) => assemble(claims, header).token,
    async forgeOnRecord(changes = {}, header = {}) {
      const { token, claims } = assemble(changes, header);
      const { jti, rid, client_id, aud, scope, iat, exp } = { ...goodClaims, ...claims } as Members;
      await pool.query(
        `insert into keyfleet.issued_tokens
           (jti, session_id, kid, instance_id, client_id, audience, scope, issued_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, to_timestamp($8), to_timestamp($9))`,
        [jti, rid, key.kid, thief.id, client_id, aud, scope, iat, Number(exp)],
      );
      return token;
    },
  };
}

/** The control of all that follows: on record, and signed by a key of the fleet. */
export const flawless = (forger: Forger) => forger.forgeOnRecord();

export interface StrangeToken {
  readonly name: string;
  make(forger: Forger): string | Promise<string>;
}

const parts = (token: string) => token.split(".") as [string, string, string];
const nowSeconds = () => Math.floor((performance.timeOrigin + performance.now()) / 1000);
const header = (forger: Forger) => decodeProtectedHeader(forger.good);

function foreign(forger: Forger, named: "its own" | "ours"): string {
  const key = makeKey();
  const kid = named === "ours" ? header(forger).kid : key.kid;
  return compact({ ...header(forger), kid }, decodeJwt(forger.good), key.sign);
}

/** `A` and `B` differ in the last two bits of their four, of which an Ed25519 signature has no use. */
function withUnusedBit(token: string): string {
  const last = token.at(-1) ?? "";
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  return token.slice(0, -1) + alphabet[alphabet.indexOf(last) ^ 1];
}

const malformed: readonly StrangeToken[] = [
  { name: "a refresh token", make: ({ refreshToken }) => refreshToken },
  { name: "a word", make: () => "x" },
  { name: "two dots", make: () => ".." },
  { name: "a token without its last character", make: ({ good }) => good.slice(0, -1) },
  { name: "a token without its first character", make: ({ good }) => good.slice(1) },
  { name: "a token without its signature", make: ({ good }) => good.replace(/[^.]*$/, "") },
  { name: "a token with a fourth part", make: ({ good }) => `${good}.e30` },
  { name: "a token with another spelling of its signature", make: ({ good }) => withUnusedBit(good) },
  { name: "a token with padding", make: ({ good }) => `${good}==` },
  { name: "a token of over 4 KiB", make: (forger) => forger.forgeOnRecord({ padding: "a".repeat(3500) }) },
];

const misSigned: readonly StrangeToken[] = [
  {
    name: "a token under another token's signature",
    make: ({ good, other }) => [...parts(good).slice(0, 2), parts(other)[2]].join("."),
  },
  {
    name: "a token with another token's claims",
    make: ({ good, other }) => [parts(good)[0], parts(other)[1], parts(good)[2]].join("."),
  },
  {
    name: "alg none",
    make: (forger) =>
      compact({ ...header(forger), alg: "none" }, decodeJwt(forger.good), () => Buffer.alloc(64)),
  },
  {
    name: "HS256 under the public key",
    make: (forger) =>
      compact({ ...header(forger), alg: "HS256" }, decodeJwt(forger.good), (input) =>
        createHmac("sha256", Buffer.from(forger.x, "base64url")).update(input).digest(),
      ),
  },
  { name: "a token of another fleet's key", make: (forger) => foreign(forger, "its own") },
  { name: "a token of another fleet's key under a kid of ours", make: (forger) => foreign(forger, "ours") },
];

const untrue: readonly StrangeToken[] = [
  {
    name: "an expired token",
    make: (forger) =>
      forger.forgeOnRecord({ iat: nowSeconds() - 60, nbf: nowSeconds() - 60, exp: nowSeconds() - 1 }),
  },
  {
    name: "a token that is not valid yet",
    make: (forger) => forger.forgeOnRecord({ nbf: nowSeconds() + 60 }),
  },
  {
    name: "a token that outlives its key",
    make: (forger) => forger.forgeOnRecord({ exp: nowSeconds() + 8000 }),
  },
  { name: "another issuer's token", make: (forger) => forger.forgeOnRecord({ iss: "https://id.example" }) },
  { name: "a JWT of another type", make: (forger) => forger.forgeOnRecord({}, { typ: "JWT" }) },
  {
    name: "a token with a critical extension",
    make: (forger) => forger.forgeOnRecord({}, { crit: ["x"], x: 1 }),
  },
  {
    name: "a token with a key of its own",
    make: (forger) => forger.forgeOnRecord({}, { jwk: { x: forger.x } }),
  },
  { name: "a token without a session", make: (forger) => forger.forge({ rid: undefined }) },
  {
    name: "a token whose audience is a list",
    make: (forger) => forger.forge({ aud: [decodeJwt(forger.good).aud] }),
  },
  { name: "a token that was never issued", make: (forger) => forger.forge() },
  {
    name: "a token of which the record says another session",
    make: (forger) => forger.forge({ jti: decodeJwt(forger.good).jti, rid: decodeJwt(forger.other)["rid"] }),
  },
];

export const strangeTokens: readonly StrangeToken[] = [...malformed, ...misSigned, ...untrue];
