import { expect, test } from "@jest/globals";
import { createFleetClock } from "../../src/clock.ts";
import { createTokenIssuer, type IssueRequest, type NotIssued } from "../../src/tokens/issuing.ts";
import { noLenders } from "../support/no-lenders.ts";

const settings = {
  instanceId: "instance",
  issuer: "https://id.example",
  propagationDelayMs: 0,
  accessTokenTtlMs: 900_000,
  verifyGraceMs: 600_000,
};
const grant = {
  issuer: settings.issuer,
  subject: "subject",
  audience: settings.issuer,
  clientId: "first-party",
  scope: "",
  sessionId: "session",
  jti: "jti",
};
const startMs = 1_700_000_000_000;

/** An issuer that has read the database's clock once, and holds a key that signs anything. */
function setUp({ isMature = true, isCurrent = true } = {}) {
  let ownMs = 0;
  const clock = createFleetClock({ nowMs: () => ownMs });
  const read = (databaseMs: number) =>
    clock.observe({ sentAtMs: ownMs, receivedAtMs: ownMs, databaseMs: startMs + databaseMs });
  read(0);
  const issued: string[] = [];
  const issuer = createTokenIssuer({
    clock,
    settings,
    signer: {
      offer: () => ({ settled: ["kid"], unsettled: [], isMature }),
      sign: (kid) => (kid === "kid" ? "token" : undefined),
    },
    borrower: noLenders,
    isCurrent: async () => isCurrent,
    onIssued: ({ kid }) => issued.push(kid),
  });
  const requests: IssueRequest[] = [];
  /** Gives these outcomes one after the other, the last for ever. */
  const issueAs = (...outcomes: (NotIssued | { readonly done: true })[]) =>
    issuer.issue(async (request) => {
      requests.push(request);
      return outcomes[Math.min(requests.length, outcomes.length) - 1] ?? "no_signing_key";
    });
  const pass = (durationMs: number) => {
    ownMs += durationMs;
  };
  return { issuer, issueAs, requests, issued, read, pass };
}

const refused = { code: "temporarily_unavailable", retryAfterSeconds: 1 };

test("what fails by a key or a clock that has just changed is tried again, with another jti", async () => {
  const { issueAs, requests } = setUp();
  await expect(issueAs("no_signing_key", "clock_differs", { done: true })).resolves.toEqual({ done: true });
  expect(new Set(requests.map(({ jti }) => jti)).size).toBe(3);
  expect(requests[0]).toMatchObject({ offer: { settled: ["kid"], unsettled: [] }, nowEstimateMs: startMs });
});

test("three times, and then it is unavailable", async () => {
  const { issueAs, requests } = setUp();
  await expect(issueAs("no_signing_key")).rejects.toMatchObject(refused);
  expect(requests).toHaveLength(3);
});

test("an authority that has changed is not asked again", async () => {
  const { issueAs, requests } = setUp();
  await expect(issueAs("authority_changed")).rejects.toMatchObject(refused);
  expect(requests).toHaveLength(1);
});

test("from a step of the database's clock until it is sure, the database is not even asked", async () => {
  const { issueAs, requests, read, pass } = setUp();
  pass(1000);
  read(3_600_000);
  await expect(issueAs({ done: true })).rejects.toMatchObject(refused);
  expect(requests).toHaveLength(0);
  pass(30_000);
  read(3_630_000);
  await expect(issueAs({ done: true })).rejects.toMatchObject(refused);
  pass(30_000);
  read(3_660_000);
  await expect(issueAs({ done: true })).resolves.toEqual({ done: true });
  expect(requests[0]?.nowEstimateMs).toBe(startMs + 3_660_000);
});

test("where there may be lenders that have not been read, the database is not asked, but for a mature key of its own", async () => {
  const unread = setUp({ isMature: false, isCurrent: false });
  await expect(unread.issueAs({ done: true })).rejects.toMatchObject(refused);
  expect(unread.requests).toHaveLength(0);
  for (const known of [{ isMature: false }, { isCurrent: false }])
    await expect(setUp(known).issueAs({ done: true })).resolves.toEqual({ done: true });
});

test("nothing is signed at a time that is not now", async () => {
  const { issuer, issued } = setUp();
  const at = (issuedAtMs: number) => issuer.sign(grant, { kid: "kid", mature: true, issuedAtMs });
  expect(await at(startMs + 4000)).toBe("token");
  for (const time of [startMs + 4001, startMs - 4001, Number.NaN, Number.POSITIVE_INFINITY])
    await expect(at(time)).rejects.toThrow("is not now");
  expect(issued).toEqual(["kid"]);
});

test("a key that is not held, and not lent, signs nothing, and nothing is counted", async () => {
  const { issuer, issued } = setUp();
  expect(await issuer.sign(grant, { kid: "another", mature: true, issuedAtMs: startMs })).toBeUndefined();
  expect(issued).toEqual([]);
});

test("where no signature could be had, another lender is asked once, for each may take a second", async () => {
  const { issueAs, requests } = setUp();
  await expect(issueAs("not_signed")).rejects.toMatchObject(refused);
  expect(requests).toHaveLength(2);
});
