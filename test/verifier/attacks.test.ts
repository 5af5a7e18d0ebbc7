/** Tokens that a careless verifier would take, each refused with its own code and without asking anyone anything. */

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import {
  createVerifier,
  VerificationError,
  type Verifier,
  type VerifierOptions,
  verificationMessages,
} from "../../src/verifier/index.ts";
import type { Attack } from "./attack.ts";
import { claimAttacks, revokedSession, revokedToken } from "./attack-claims.ts";
import { formAttacks } from "./attack-forms.ts";
import { headerAttacks } from "./attack-headers.ts";
import { audience, createForger, type Forger, keyLifeSeconds, makeKey } from "./forger.ts";
import { type SmallIssuer, startSmallIssuer } from "./small-issuer.ts";

const nowSeconds = 1_800_000_000;
const now = () => nowSeconds * 1000;
let issuer: SmallIssuer;
let forger: Forger;
let verifier: Verifier;
const verifiers: Verifier[] = [];

/** Knows the honest key, so that nothing needs to be asked any more. */
async function startVerifier(options: Partial<VerifierOptions> = {}): Promise<Verifier> {
  const revocation = { whenStale: "reject" } as const;
  const started = createVerifier({ issuer: issuer.url, audience, revocation, now, ...options });
  verifiers.push(started);
  await started.ready();
  await started.verify(forger.honest());
  return started;
}

async function outcomeOf(by: Verifier, token: unknown): Promise<string> {
  try {
    await by.verify(token as string);
    return "accepted";
  } catch (error) {
    if (!(error instanceof VerificationError)) throw error;
    expect(error.message).toMatch(verificationMessages[error.code]);
    return error.code;
  }
}

beforeAll(async () => {
  issuer = await startSmallIssuer({ now });
  const key = makeKey(nowSeconds + keyLifeSeconds);
  issuer.serveKey(key.kid, { jwk: key.jwk() });
  issuer.revoke("session", revokedSession);
  issuer.revoke("token", revokedToken);
  forger = createForger(issuer.url, key, nowSeconds);
  verifier = await startVerifier();
});

afterAll(async () => {
  for (const started of verifiers) await started.close();
  await issuer.close();
});

async function attempt({ outcome, make }: Attack): Promise<void> {
  const token = make(forger);
  const requestsBefore = issuer.requests.length;
  expect(await outcomeOf(verifier, forger.honest())).toBe("accepted");
  expect(await outcomeOf(verifier, token)).toBe(outcome);
  expect(await outcomeOf(verifier, token)).toBe(outcome);
  expect(await outcomeOf(verifier, forger.honest())).toBe("accepted");
  expect(issuer.requests.slice(requestsBefore)).toEqual([]);
}

describe("a header", () => {
  test.each(headerAttacks)("$name: $outcome", attempt);
});

describe("claims", () => {
  test.each(claimAttacks)("$name: $outcome", attempt);
});

describe("a form", () => {
  test.each(formAttacks)("$name: $outcome", attempt);
});

test("there are at least a hundred of each kind", () => {
  for (const attacks of [headerAttacks, claimAttacks, formAttacks]) {
    expect(attacks.filter(({ outcome }) => outcome !== "accepted").length).toBeGreaterThan(100);
  }
});

test("a missing claim is named", async () => {
  const token = forger.forge({ claims: { jti: undefined } });
  await expect(verifier.verify(token)).rejects.toMatchObject({ message: "Missing claim: jti" });
});

test("a claim that the service requires has to be there, and may have any type", async () => {
  const strict = await startVerifier({ requiredClaims: ["auth_time", "scope"] });
  for (const name of ["auth_time", "scope"]) {
    const token = forger.forge({ claims: { [name]: undefined } });
    await expect(strict.verify(token)).rejects.toMatchObject({ message: `Missing claim: ${name}` });
    expect(await outcomeOf(verifier, token)).toBe("accepted");
  }
});

test("the session may be missing where no revocations are followed, and is of no interest there", async () => {
  const deaf = await startVerifier({ revocation: null });
  expect(await outcomeOf(deaf, forger.forge({ claims: { rid: undefined } }))).toBe("accepted");
  expect(await outcomeOf(deaf, forger.forge({ claims: { rid: 7 } }))).toBe("malformed_token");
  expect(await outcomeOf(deaf, forger.forge({ claims: { rid: revokedSession } }))).toBe("accepted");
});

describe.each([0, 1, 60])("a tolerance of %d s", (clockToleranceSeconds) => {
  test("moves every bound by as much, and no further", async () => {
    const tolerant = await startVerifier({ clockToleranceSeconds });
    const token = (claims: object) => forger.forge({ claims: { nbf: undefined, ...claims } });
    const expired = (agoSeconds: number) => token({ iat: nowSeconds - 600, exp: nowSeconds - agoSeconds });
    const early = (aheadSeconds: number) => token({ iat: nowSeconds + aheadSeconds });
    const inactive = (aheadSeconds: number) => token({ nbf: nowSeconds + aheadSeconds });
    expect(await outcomeOf(tolerant, expired(clockToleranceSeconds - 1))).toBe("accepted");
    expect(await outcomeOf(tolerant, expired(clockToleranceSeconds))).toBe("token_expired");
    for (const make of [early, inactive]) {
      expect(await outcomeOf(tolerant, make(clockToleranceSeconds))).toBe("accepted");
      expect(await outcomeOf(tolerant, make(clockToleranceSeconds + 1))).toBe("token_not_active");
    }
  });
});

test("a longest lifetime of the service's own holds", async () => {
  const brief = await startVerifier({ maxLifetimeSeconds: 600 });
  const lasting = (seconds: number) => forger.forge({ claims: { exp: nowSeconds + seconds } });
  expect(await outcomeOf(brief, lasting(600))).toBe("accepted");
  expect(await outcomeOf(brief, lasting(601))).toBe("malformed_token");
});

test("a token that was good expires in the cache too", async () => {
  let passedMs = 0;
  const aging = await startVerifier({ revocation: null, now: () => now() + passedMs });
  const token = forger.honest();
  expect(await outcomeOf(aging, token)).toBe("accepted");
  passedMs = 604_999;
  expect(await outcomeOf(aging, token)).toBe("accepted");
  passedMs = 605_000;
  expect(await outcomeOf(aging, token)).toBe("token_expired");
});
