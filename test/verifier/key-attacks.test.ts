/** Keys that are none to verify with, and how little is asked of the issuer before that is known. */

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import {
  createVerifier,
  VerificationError,
  type Verifier,
  type VerifierOptions,
} from "../../src/verifier/index.ts";
import { eventually } from "../support/accounts.ts";
import { isGoodUnder, jwkOf, keyAttacks, lowOrderKeys, lowOrderSignature, misshapen } from "./attack-keys.ts";
import {
  audience,
  createForger,
  type Forger,
  keyLifeSeconds,
  makeEcKey,
  makeKey,
  sessionId,
  type TestKey,
} from "./forger.ts";
import { type SmallIssuer, startSmallIssuer } from "./small-issuer.ts";

const nowSeconds = 1_800_000_000;
const metadataPath = "/.well-known/openid-configuration";
const keyPath = (kid: string) => `/.well-known/jwks/${kid}`;
let passedSeconds: number;
const now = () => (nowSeconds + passedSeconds) * 1000;
let issuer: SmallIssuer;
let key: TestKey;
let forger: Forger;
let verifiers: Verifier[];

function startVerifier(options: Partial<VerifierOptions> = {}): Verifier {
  const verifier = createVerifier({ issuer: issuer.url, audience, revocation: null, now, ...options });
  verifiers.push(verifier);
  return verifier;
}

async function outcomeOf(verifier: Verifier, token: string): Promise<string> {
  try {
    await verifier.verify(token);
    return "accepted";
  } catch (error) {
    if (!(error instanceof VerificationError)) throw error;
    return error.code;
  }
}

beforeEach(async () => {
  passedSeconds = 0;
  verifiers = [];
  issuer = await startSmallIssuer({ now });
  key = makeKey(nowSeconds + keyLifeSeconds);
  forger = createForger(issuer.url, key, nowSeconds);
});

afterEach(async () => {
  for (const verifier of verifiers) await verifier.close();
  await issuer.close();
});

describe("where the issuer answers for a kid with", () => {
  test.each(keyAttacks)("$name: $outcome", async ({ outcome, answer }) => {
    issuer.serveKey(key.kid, answer(key, nowSeconds));
    const token = forger.forge({ claims: { iat: nowSeconds - 600, exp: nowSeconds + 1 } });
    // Past its time by less than the tolerance: the key's own end is what has to refuse it then.
    const ended = forger.forge({ claims: { iat: nowSeconds - 600, exp: nowSeconds } });
    expect(await outcomeOf(startVerifier(), outcome === "unknown_key" ? ended : token)).toBe(outcome);
    expect(issuer.requests).toEqual([metadataPath, keyPath(key.kid)]);
  });

  test.each(misshapen)("an x %s: unknown_key", async (_, x) => {
    const jwk = jwkOf(x);
    issuer.serveKey(jwk.kid, { jwk });
    expect(await outcomeOf(startVerifier(), forger.forge({ header: { kid: jwk.kid } }))).toBe("unknown_key");
    expect(issuer.requests).toEqual([metadataPath, keyPath(jwk.kid)]);
  });
});

describe("a key of low order", () => {
  /** Whatever it says, no private key is needed: changing the `jti` is enough to find a message that fits. */
  function forgeUnder(x: string): { readonly token: string; readonly isGood: boolean } {
    let token = "";
    for (let tries = 0; tries < 200; tries += 1) {
      token = forger.forge({ header: { kid: jwkOf(x).kid }, signer: () => lowOrderSignature });
      if (isGoodUnder(x, token)) return { token, isGood: true };
    }
    return { token, isGood: false };
  }

  test.each(lowOrderKeys)("%s is none, though its signature may be good", async (x) => {
    const jwk = jwkOf(x);
    issuer.serveKey(jwk.kid, { jwk });
    const { token } = forgeUnder(x);
    expect(await outcomeOf(startVerifier(), token)).toBe("unknown_key");
    expect(issuer.requests).toEqual([metadataPath, keyPath(jwk.kid)]);
  });

  test("would let anyone sign, so the forgeries are worth refusing", () => {
    const forgeable = lowOrderKeys.filter((x) => forgeUnder(x).isGood);
    expect(forgeable.length).toBeGreaterThanOrEqual(8);
  });
});

describe("a key of somebody else", () => {
  test("is unknown, whoever else publishes it, and that issuer is not asked", async () => {
    const other = await startSmallIssuer({ now });
    try {
      const otherKey = makeKey(nowSeconds + keyLifeSeconds);
      other.serveKey(otherKey.kid, { jwk: otherKey.jwk() });
      const token = forger.forge({
        header: { kid: otherKey.kid },
        claims: { iss: other.url },
        signer: otherKey.sign,
      });
      expect(await outcomeOf(startVerifier(), token)).toBe("unknown_key");
      expect(issuer.requests).toEqual([metadataPath, keyPath(otherKey.kid)]);
      expect(other.requests).toEqual([]);
    } finally {
      await other.close();
    }
  });

  test("does not sign under a kid of ours", async () => {
    issuer.serveKey(key.kid, { jwk: key.jwk() });
    const token = forger.forge({ signer: makeKey(0).sign });
    expect(await outcomeOf(startVerifier(), token)).toBe("signature_failed");
  });

  test("is not fetched where a redirect leads", async () => {
    const other = await startSmallIssuer({ now });
    try {
      const location = other.url + keyPath(key.kid);
      other.serveKey(key.kid, { jwk: key.jwk() });
      issuer.serveKey(key.kid, { status: 302, headers: { location } });
      expect(await outcomeOf(startVerifier(), forger.honest())).toBe("keys_unavailable");
      expect(other.requests).toEqual([]);
    } finally {
      await other.close();
    }
  });
});

test("a kid that is not there is asked for once, by however many tokens at once and soon after", async () => {
  const verifier = startVerifier();
  const tokens = Array.from({ length: 50 }, () => forger.honest());
  const outcomes = await Promise.all(tokens.map((token) => outcomeOf(verifier, token)));
  expect(new Set(outcomes)).toEqual(new Set(["unknown_key"]));
  expect(await outcomeOf(verifier, forger.honest())).toBe("unknown_key");
  expect(issuer.requests).toEqual([metadataPath, keyPath(key.kid)]);
});

test("a key that is known is good until its end, and no longer, though the issuer serves it still", async () => {
  issuer.serveKey(key.kid, { jwk: key.jwk({ exp: nowSeconds + 100 }) });
  const verifier = startVerifier({ clockToleranceSeconds: 60 });
  const token = forger.forge({ claims: { exp: nowSeconds + 100 } });
  expect(await outcomeOf(verifier, token)).toBe("accepted");
  passedSeconds = 99;
  expect(await outcomeOf(verifier, token)).toBe("accepted");
  passedSeconds = 100;
  expect(await outcomeOf(verifier, token)).toBe("unknown_key");
  expect(await outcomeOf(verifier, forger.forge({ claims: { exp: nowSeconds + 100 } }))).toBe("unknown_key");
  expect(issuer.requests).toEqual([metadataPath, keyPath(key.kid), keyPath(key.kid)]);
});

test("a key that an issuer of key sets alone withdraws is forgotten when the set is next read", async () => {
  issuer.changeMetadata({ revocation_events_endpoint: undefined });
  issuer.serveKey(key.kid, { jwk: key.jwk({ exp: undefined }) });
  const verifier = startVerifier();
  const token = () => forger.forge({ claims: { exp: nowSeconds + 900 } });
  expect(await outcomeOf(verifier, token())).toBe("accepted");
  issuer.serveKey(key.kid, { status: 404 });
  passedSeconds = 300;
  expect(await outcomeOf(verifier, token())).toBe("accepted");
  passedSeconds = 301;
  await eventually(async () => (await outcomeOf(verifier, token())) === "unknown_key");
  const setPath = "/.well-known/jwks.json";
  expect(issuer.requests).toEqual([metadataPath, setPath, setPath]);
});

describe("metadata", () => {
  /** Leads to the same server, so that a request would be seen. */
  const byAnotherName = () => issuer.url.replace("127.0.0.1", "localhost");
  const lies = {
    "of another issuer": () => ({ issuer: "https://id.example" }),
    "of the issuer with a slash after it": () => ({ issuer: `${issuer.url}/` }),
    "without an issuer": () => ({ issuer: undefined }),
    "without keys": () => ({ jwks_uri: undefined }),
    "with keys elsewhere": () => ({ jwks_uri: `${byAnotherName()}/.well-known/jwks.json` }),
    "with keys at the same host's other scheme": () => ({ jwks_uri: issuer.url.replace("http", "https") }),
    "with keys in a file": () => ({ jwks_uri: "file:///etc/passwd" }),
    "with revocations elsewhere": () => ({ revocation_events_endpoint: "http://127.0.0.1:9/revocations" }),
    "with introspection elsewhere": () => ({ introspection_endpoint: "http://127.0.0.1:9/introspect" }),
  };
  test.each(Object.entries(lies))("%s are not believed", async (_, lie) => {
    issuer.serveKey(key.kid, { jwk: key.jwk() });
    issuer.changeMetadata(lie());
    expect(await outcomeOf(startVerifier(), forger.honest())).toBe("keys_unavailable");
    expect(issuer.requests).toEqual([metadataPath]);
  });
});

test("a key of one algorithm does not verify what names another, though the service takes both", async () => {
  const ec = makeEcKey("P-256", "sha256");
  issuer.serveKey(key.kid, { jwk: key.jwk() });
  issuer.serveKey(ec.kid, { jwk: ec.jwk });
  const verifier = startVerifier({ algorithms: ["EdDSA", "Ed25519", "ES256"] });
  const ecHeader = { alg: "ES256", kid: ec.kid };
  expect(await outcomeOf(verifier, forger.honest())).toBe("accepted");
  expect(await outcomeOf(verifier, forger.forge({ header: ecHeader, signer: ec.sign }))).toBe("accepted");
  for (const alg of ["Ed25519", "ES256"]) {
    expect(await outcomeOf(verifier, forger.forge({ header: { alg } }))).toBe("invalid_algorithm");
  }
  const crossed = { alg: "EdDSA", kid: ec.kid };
  expect(await outcomeOf(verifier, forger.forge({ header: crossed }))).toBe("invalid_algorithm");
  expect(await outcomeOf(verifier, forger.forge({ header: ecHeader }))).toBe("signature_failed");
});

describe("what was revoked", () => {
  const following = { revocation: { whenStale: "reject" } } as const;

  test("before its key was ever met is refused without asking for the key", async () => {
    issuer.serveKey(key.kid, { jwk: key.jwk() });
    issuer.revoke("key", key.kid);
    const verifier = startVerifier(following);
    await verifier.ready();
    expect(await outcomeOf(verifier, forger.honest())).toBe("revoked_key");
    expect(issuer.requests).toEqual([metadataPath, "/revocations/stream"]);
  });

  test.each([
    ["session", "token_revoked"],
    ["token", "token_revoked"],
    ["key", "revoked_key"],
  ] as const)("while a token of it was known, a %s, is refused: %s", async (type, outcome) => {
    issuer.serveKey(key.kid, { jwk: key.jwk() });
    const verifier = startVerifier(following);
    await verifier.ready();
    const jti = "8d3c9b0e-0000-4000-8000-000000000001";
    const token = forger.forge({ claims: { jti } });
    expect(await outcomeOf(verifier, token)).toBe("accepted");
    const requestsBefore = issuer.requests.length;
    issuer.revoke(type, { session: sessionId, token: jti, key: key.kid }[type]);
    await eventually(async () => (await outcomeOf(verifier, token)) !== "accepted");
    expect(await outcomeOf(verifier, token)).toBe(outcome);
    expect(issuer.requests.length).toBe(requestsBefore);
  });
});

test("nothing is called verified before the first reading of revocations", async () => {
  issuer.serveKey(key.kid, { jwk: key.jwk() });
  issuer.changeMetadata({ revocation_events_endpoint: undefined });
  const [rejecting, accepting] = (["reject", "accept"] as const).map((whenStale) =>
    startVerifier({ revocation: { whenStale } }),
  ) as [Verifier, Verifier];
  const [first, second] = [forger.honest(), forger.honest()];
  expect(await outcomeOf(rejecting, first)).toBe("revocation_stale");
  expect(await outcomeOf(accepting, second)).toBe("accepted");
});
