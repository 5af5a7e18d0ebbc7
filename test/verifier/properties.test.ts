/** Whatever comes in: one bit of a good token changed, noise, and garbage in a token's shape. */

import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { createVerifier, VerificationError, type Verifier } from "../../src/verifier/index.ts";
import { amount } from "../support/long-form.ts";
import { audience, createForger, type Forger, keyLifeSeconds, makeKey, parts } from "./forger.ts";
import { type SmallIssuer, startSmallIssuer } from "./small-issuer.ts";

const nowSeconds = 1_800_000_000;
const now = () => nowSeconds * 1000;
/** All are asked at once. */
const patienceMs = 15_000;
let issuer: SmallIssuer;
let forger: Forger;
let verifier: Verifier;

beforeAll(async () => {
  issuer = await startSmallIssuer({ now });
  const key = makeKey(nowSeconds + keyLifeSeconds);
  issuer.serveKey(key.kid, { jwk: key.jwk() });
  forger = createForger(issuer.url, key, nowSeconds);
  verifier = createVerifier({ issuer: issuer.url, audience, revocation: { whenStale: "reject" }, now });
  await verifier.ready();
  await verifier.verify(forger.honest());
});

afterAll(async () => {
  await verifier.close();
  await issuer.close();
});

/** Rejects for anything but an answer or a VerificationError in time. */
async function outcomeOf(token: unknown): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("verify did not come back")), patienceMs);
  });
  try {
    await Promise.race([verifier.verify(token as string), late]);
    return "accepted";
  } catch (error) {
    if (!(error instanceof VerificationError)) throw error;
    return error.code;
  } finally {
    clearTimeout(timer);
  }
}

/** How often each outcome came. All at once, so that strange kids share what is asked for them. */
async function countOutcomes(tokens: readonly string[]): Promise<Readonly<Record<string, number>>> {
  const counts: Record<string, number> = {};
  for (const outcome of await Promise.all(tokens.map(outcomeOf)))
    counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}

test("no token is good with one bit of its text changed, whichever", async () => {
  const token = forger.honest();
  const changed = Array.from({ length: token.length * 8 }, (_, bit) => {
    const at = bit >> 3;
    const character = String.fromCharCode(token.charCodeAt(at) ^ (1 << (bit & 7)));
    return token.slice(0, at) + character + token.slice(at + 1);
  });
  expect(new Set(changed).size).toBe(changed.length);
  const counts = await countOutcomes(changed);
  expect(counts["accepted"]).toBeUndefined();
  expect(Object.keys(counts)).toEqual(expect.arrayContaining(["malformed_token", "signature_failed"]));
  expect(await outcomeOf(token)).toBe("accepted");
});

test("no token is good with one bit of what its text encodes changed, whichever", async () => {
  const token = forger.honest();
  const changed = [0, 1, 2].flatMap((part) => {
    const bytes = Buffer.from(parts(token)[part] ?? "", "base64url");
    return Array.from({ length: bytes.length * 8 }, (_, bit) => {
      const other = Buffer.from(bytes);
      other[bit >> 3] = (other[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      return parts(token)
        .map((text, index) => (index === part ? other.toString("base64url") : text))
        .join(".");
    });
  });
  expect(changed.length).toBeGreaterThan(3000);
  const counts = await countOutcomes(changed);
  expect(counts["accepted"]).toBeUndefined();
  expect(counts["signature_failed"]).toBeGreaterThan(2000);
  expect(await outcomeOf(token)).toBe("accepted");
});

test("no token is good with a character more, less or moved", async () => {
  const token = forger.honest();
  const changed = Array.from(token, (character, at) => [
    token.slice(0, at) + token.slice(at + 1),
    token.slice(0, at) + character + token.slice(at),
    token.slice(0, at) + token.slice(at + 1, at + 2) + character + token.slice(at + 2),
  ])
    .flat()
    .filter((text) => text !== token);
  expect((await countOutcomes(changed))["accepted"]).toBeUndefined();
});

const refusesAll = async (token: unknown) => {
  expect(await outcomeOf(token)).not.toBe("accepted");
};

test("noise of any kind is refused by a VerificationError", async () => {
  const noise = fc.oneof(
    fc.anything(),
    fc.string({ unit: "binary", maxLength: 5000 }),
    fc.string({ unit: fc.constantFrom(".", "A", "-", "_", "=", "\ud800", "\u0000", "e30"), maxLength: 200 }),
    fc.uint8Array({ maxLength: 500 }).map((bytes) => Buffer.from(bytes).toString("latin1")),
    fc
      .tuple(fc.uint8Array(), fc.uint8Array(), fc.uint8Array({ minLength: 64, maxLength: 64 }))
      .map((three) => three.map((bytes) => Buffer.from(bytes).toString("base64url")).join(".")),
  );
  await fc.assert(fc.asyncProperty(noise, refusesAll), { numRuns: amount(400, 3000) });
});

/** JSON that a signer would never write, signed all the same. */
const json = fc.oneof(fc.json({ maxDepth: 3 }), fc.string({ unit: "binary" }), fc.constant("{}"));

test("garbage under a good signature is refused by a VerificationError", async () => {
  await fc.assert(
    fc.asyncProperty(json, json, async (header, claims) => {
      await refusesAll(forger.forge({ headerText: () => header }));
      await refusesAll(forger.forge({ claimsText: () => claims }));
    }),
    { numRuns: amount(150, 1000) },
  );
});

const names = ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "scope", "rid", "auth_time"];
const value = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.integer({ min: nowSeconds - 4000, max: nowSeconds + 4000 }),
  fc.constant(undefined),
  fc.constantFrom(audience, [audience], [audience, "https://other.example"]),
);

test("claims of any kind under a good signature are refused, or are what claims have to be", async () => {
  const changes = fc.dictionary(fc.constantFrom(...names), value, { maxKeys: 2, noNullPrototype: true });
  let accepted = 0;
  await fc.assert(
    fc.asyncProperty(changes, async (claims) => {
      const token = forger.forge({ claims });
      if ((await outcomeOf(token)) !== "accepted") return;
      accepted += 1;
      const { iss, aud, exp, iat, nbf = iat, scope, ...others } = await verifier.verify(token);
      expect(iss).toBe(issuer.url);
      expect([aud].flat()).toContain(audience);
      expect([exp, iat, nbf].every(Number.isSafeInteger)).toBe(true);
      expect(exp).toBeGreaterThan(nowSeconds - 5);
      expect(exp).toBeLessThanOrEqual(nowSeconds + keyLifeSeconds);
      expect(exp - iat).toBeLessThanOrEqual(3600);
      expect(Math.max(iat, nbf)).toBeLessThanOrEqual(nowSeconds + 5);
      const texts = [scope, others.sub, others.jti, others.client_id, others.rid];
      expect(texts.every((text) => typeof text === "string")).toBe(true);
    }),
    { numRuns: 1000 },
  );
  expect(accepted).toBeGreaterThan(100);
});

test("a header of any kind under a good signature is refused, but for the few good ones", async () => {
  const good = { alg: "EdDSA", kid: forger.key.kid };
  const changes = fc.dictionary(
    fc.oneof(fc.constantFrom("alg", "typ", "kid", "crit", "jwk", "b64"), fc.string()),
    fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom("EdDSA", "none", "at+jwt", "AT+JWT")),
    { minKeys: 1, maxKeys: 3, noNullPrototype: true },
  );
  await fc.assert(
    fc.asyncProperty(changes, async (header) => {
      if ((await outcomeOf(forger.forge({ header }))) !== "accepted") return;
      const { typ = "at+jwt", ...others } = header;
      expect(String(typ).toLowerCase()).toBe("at+jwt");
      expect({ ...good, ...others }).toEqual(good);
    }),
    { numRuns: amount(300, 2000) },
  );
});
