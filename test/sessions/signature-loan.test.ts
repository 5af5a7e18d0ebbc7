/** A loan from its request to its signature, between a borrower and a lender that share FLEET_SECRET and nothing else. */

import { randomUUID } from "node:crypto";
import { describe, expect, jest, test } from "@jest/globals";
import { createFleetSecrets } from "../../src/fleet-secret.ts";
import type { KeyLookup } from "../../src/keys/directory.ts";
import { createKeyRing } from "../../src/keys/key-ring.ts";
import type { PublishedKey } from "../../src/keys/published-key.ts";
import {
  decodeLoanMessage,
  encodeLoanMessage,
  type LoanMessage,
  openSignature,
  sealSignature,
} from "../../src/keys/signature-loan.ts";
import { accessTokenSigningInput, generateSigningKey, isSignedBy } from "../../src/keys/signing-key.ts";
import { createLendSignature, type RecordedToken } from "../../src/sessions/lend-signature.ts";
import { type SessionFacts, sealSession } from "../../src/sessions/session.ts";
import { accessTokenClaims, createJti } from "../../src/tokens/access-token.ts";
import { createSignatureBorrower } from "../../src/tokens/borrow-signature.ts";
import { testSecrets } from "../support/accounts.ts";

const issuer = "https://id.example";
const nowMs = 1_800_000_000_000;
const clock = { nowMs: () => nowMs };
const minuteMs = 60_000;
const noKeys = { settled: [], unsettled: [], isMature: false };
const lenderId = randomUUID();
const borrowerId = randomUUID();

type Times = Pick<PublishedKey, "publishedAtMs" | "retiresAtMs">;

function publish(kid: string, x: string, given: Partial<Times> = {}): PublishedKey {
  const publishedAtMs = given.publishedAtMs ?? nowMs - 20 * minuteMs;
  const times = {
    activatesAtMs: publishedAtMs,
    retiresAtMs: given.retiresAtMs ?? nowMs + 60 * minuteMs,
    expiresAtMs: nowMs + 90 * minuteMs,
  };
  const seal = { secretId: "", seal: Buffer.alloc(0) };
  const key = { kid, x, alg: "EdDSA", instanceId: lenderId, publishedAtMs, ...times } as const;
  return { ...key, retiredEarlyAtMs: null, revokedAtMs: null, seal };
}

interface Changes {
  /** Of the record that the lender reads. */
  readonly record?: Partial<RecordedToken>;
  /** Of the session's row after it was sealed. */
  readonly session?: Partial<SessionFacts>;
  /** Of the lender's key. */
  readonly times?: Partial<Times>;
  /** What becomes of a message on its way; undefined: it is lost. */
  onWay?(message: LoanMessage): LoanMessage | undefined;
  readonly failsToSend?: boolean;
}

/** Asks for the signature of one token; the lender reads what `changes` make of its record. */
function loan(changes: Changes = {}) {
  const key = generateSigningKey("EdDSA");
  const published = publish(key.kid, key.x, changes.times);
  const ring = createKeyRing({ clock, verifyGraceMs: 10 * minuteMs, propagationDelayMs: 10 * minuteMs });
  ring.add(key, published, nowMs - minuteMs);
  const facts = {
    id: randomUUID(),
    accountId: randomUUID(),
    clientId: "first-party",
    audience: "https://api.example",
    scope: "orders:read orders:write",
    authTimeMs: nowMs - minuteMs,
    expiresAtMs: nowMs + 60 * minuteMs,
  };
  const session = { ...facts, seal: sealSession(testSecrets, facts), refresh: null, ...changes.session };
  const jti = createJti();
  const grant = { issuer, subject: facts.accountId, sessionId: facts.id, jti, ...facts };
  const claims = accessTokenClaims(grant, nowMs, 15 * minuteMs);
  const record = {
    kid: key.kid,
    borrowerId,
    clientId: facts.clientId,
    audience: facts.audience,
    scope: facts.scope,
  };
  const times = { issuedAtMs: nowMs, expiresAtMs: nowMs + 15 * minuteMs };
  const token: RecordedToken = { jti, ...record, ...times, session, ...changes.record };
  const outcomes: string[] = [];
  const onWay = changes.onWay ?? ((message: LoanMessage) => message);
  const deliver = (message: LoanMessage) => {
    const arrived = onWay(message);
    if (arrived?.type === "request") lend(arrived.jti);
    if (arrived?.type === "answer") borrower.onAnswer(arrived.jti, arrived.sealed);
  };
  const post = {
    async send(messages: readonly { readonly to: string; readonly message: LoanMessage }[]) {
      if (changes.failsToSend) throw new Error("the database is away");
      for (const { message } of messages) deliver(message);
    },
  };
  const lend = createLendSignature({
    issuer,
    clock,
    ring,
    secrets: testSecrets,
    store: { ...post, readTokens: async (jtis) => (jtis.includes(jti) ? [token] : []) },
    onLent: () => outcomes.push("lent"),
    onRefused: () => outcomes.push("refused"),
    onFailure: (error) => outcomes.push(String(error)),
  });
  const borrower = createSignatureBorrower({
    instanceId: borrowerId,
    alg: "EdDSA",
    clock,
    directory: {
      snapshot: () => ({ keys: [published], changesAtMs: Number.POSITIVE_INFINITY }),
      find: (kid): KeyLookup =>
        kid === key.kid ? { status: "published", key: published } : { status: "unknown" },
    },
    secrets: testSecrets,
    post,
    propagationDelayMs: 10 * minuteMs,
    isHearing: () => true,
    onLoan: (outcome) => outcomes.push(outcome),
  });
  return { key, claims, outcomes, borrower, signed: borrower.borrow(key.kid, claims) };
}

/** The outcome of a loan that gets no answer, without waiting for the second that it is given. */
async function unanswered(changes: Changes): Promise<readonly string[]> {
  jest.useFakeTimers({ doNotFake: ["nextTick", "setImmediate", "queueMicrotask", "performance"] });
  try {
    const { signed, outcomes } = loan(changes);
    await jest.advanceTimersByTimeAsync(999);
    expect(outcomes.filter((outcome) => outcome === "unanswered")).toEqual([]);
    await jest.advanceTimersByTimeAsync(1);
    expect(await signed).toBeUndefined();
    return outcomes;
  } finally {
    jest.useRealTimers();
  }
}

test("a lender signs what the borrower put together, and nothing else goes over the wire", async () => {
  const onWire: string[] = [];
  const { signed, key, claims, outcomes } = loan({
    onWay(message) {
      onWire.push(encodeLoanMessage(message));
      return message;
    },
  });
  const token = (await signed) ?? "";
  const [header, payload, signature = ""] = token.split(".");
  expect(`${header}.${payload}`).toBe(accessTokenSigningInput("EdDSA", key.kid, claims));
  expect(isSignedBy(key.x, `${header}.${payload}`, Buffer.from(signature, "base64url"))).toBe(true);
  expect(outcomes).toEqual(["borrowed", "lent"]);
  for (const part of [header, payload, signature, claims.sub, claims.scope])
    expect(onWire.join()).not.toContain(part);
  expect(onWire.join()).not.toContain(Buffer.from(signature, "base64url").toString("hex"));
});

describe("a lender refuses", () => {
  test.each<[string, Changes]>([
    ["a key that caches do not know yet", { times: { publishedAtMs: nowMs - 9 * minuteMs } }],
    ["a record of another's key", { record: { kid: generateSigningKey("EdDSA").kid } }],
    ["a record that is old", { record: { issuedAtMs: nowMs - 5000, expiresAtMs: nowMs + 15 * minuteMs } }],
    ["a record that is of the future", { record: { issuedAtMs: nowMs + 5000 } }],
    ["more scope than the session has", { record: { scope: "orders:read keyfleet:admin" } }],
    ["another audience than the session's", { record: { audience: issuer } }],
    ["another client than the session's", { record: { clientId: "another" } }],
    ["a session of another account than it was sealed for", { session: { accountId: randomUUID() } }],
    ["a session whose scope was changed", { session: { scope: "keyfleet:admin" } }],
    ["a token that outlives the key", { record: { expiresAtMs: nowMs + 81 * minuteMs } }],
  ])("%s", async (_, changes) => {
    expect(await unanswered(changes)).toEqual(["refused", "unanswered"]);
  });
});

describe("a borrower takes no answer", () => {
  const anotherSecret = createFleetSecrets(Buffer.alloc(32, 1));

  test.each<[string, (answer: LoanMessage & { type: "answer" }) => LoanMessage | undefined]>([
    ["that is lost", () => undefined],
    ["that was changed", (answer) => ({ ...answer, sealed: `${answer.sealed.slice(0, -4)}AAAA` })],
    [
      "of one who does not know FLEET_SECRET",
      ({ jti }) => {
        const sealed = sealSignature(anotherSecret, { jti, kid: "", borrowerId }, "A".repeat(86));
        return { type: "answer", jti, sealed };
      },
    ],
    [
      "that was sealed for another request",
      ({ jti }) => {
        const sealed = sealSignature(testSecrets, { jti: createJti(), kid: "", borrowerId }, "A".repeat(86));
        return { type: "answer", jti, sealed };
      },
    ],
  ])("%s", async (_, change) => {
    const outcomes = await unanswered({
      onWay: (message) => (message.type === "answer" ? change(message) : message),
    });
    expect(outcomes).toContain("unanswered");
    expect(outcomes).not.toContain("borrowed");
  });

  test("that signs other claims than its own: the record was rewritten under way", async () => {
    const outcomes = await unanswered({ record: { scope: "orders:read" } });
    expect(outcomes).toEqual(["false_answer", "lent", "unanswered"]);
  });

  test("for long: a wrong one does not keep the right one out", async () => {
    let right = "";
    const { signed, borrower, claims } = loan({
      onWay(message) {
        if (message.type === "answer") right = message.sealed;
        return message.type === "answer" ? { ...message, sealed: "wrong" } : message;
      },
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(right).not.toBe("");
    borrower.onAnswer(claims.jti, right);
    expect(await signed).toBeDefined();
  });
});

describe("a lender that does not answer", () => {
  test("is left alone for a while, unless the request never left", async () => {
    jest.useFakeTimers({ doNotFake: ["nextTick", "setImmediate", "queueMicrotask", "performance"] });
    const silent = loan({ onWay: () => undefined });
    await jest.advanceTimersByTimeAsync(1000);
    jest.useRealTimers();
    await silent.signed;
    expect(silent.borrower.offer(noKeys)).toEqual({
      lenders: [silent.key.kid],
      avoided: [lenderId],
      hearing: true,
    });
    const unsent = loan({ failsToSend: true });
    expect(await unsent.signed).toBeUndefined();
    expect(unsent.outcomes).toEqual(["unsent"]);
    expect(unsent.borrower.offer(noKeys)).toMatchObject({ avoided: [] });
  });

  test("is not asked by who has a mature key", () => {
    const { borrower } = loan();
    expect(borrower.offer({ ...noKeys, isMature: true }).lenders).toEqual([]);
  });
});

test.each([
  "",
  "request",
  "request short",
  `answer ${createJti()}`,
  `request ${createJti()} more`,
  "answer\n",
])("%j is no message", (text) => {
  expect(decodeLoanMessage(text)).toBeUndefined();
});

test("a sealed signature opens for the request that it answers, and for no other", () => {
  const asked = { jti: createJti(), kid: "kid", borrowerId };
  const signature = Buffer.alloc(64, 7);
  const sealed = sealSignature(testSecrets, asked, signature.toString("base64url"));
  expect(openSignature(testSecrets, asked, sealed)).toEqual(signature);
  for (const other of [{ jti: createJti() }, { kid: "another" }, { borrowerId: lenderId }])
    expect(openSignature(testSecrets, { ...asked, ...other }, sealed)).toBeUndefined();
});

test("a key is offered from two seconds before it is mature on, until two seconds after its end: the statement may come later, by a clock that is behind", async () => {
  const isOffered = async (times: Partial<Times>) => {
    const { borrower, signed } = loan({ times, failsToSend: true });
    await signed;
    return borrower.offer(noKeys).lenders.length === 1;
  };
  const inMs = (ms: number) => isOffered({ publishedAtMs: nowMs - 10 * minuteMs + ms });
  expect([await inMs(0), await inMs(2000), await inMs(2001)]).toEqual([true, true, false]);
  const agoMs = (ms: number) => isOffered({ retiresAtMs: nowMs - ms });
  expect([await agoMs(0), await agoMs(1999), await agoMs(2000)]).toEqual([true, true, false]);
});
