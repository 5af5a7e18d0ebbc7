/** Each reason for which a rejection does not count, and the same case just outside of it, which is a false one. */

import { describe, expect, test } from "@jest/globals";
import type { KeyAnswer } from "./front.ts";
import { cutForMs, type Hindrance, wasCutOff } from "./hindrances.ts";
import { createHoldOff } from "./hold-off.ts";
import { judgeRejection, type RejectionCase, type SignatureFacts, slackMs } from "./judge.ts";

const second = 1000;
const delayMs = 35 * second;
/** The token was issued at 100 s, and is rejected from then on for a tenth of a second. */
const issuedAtMs = 100 * second;
const rejection: RejectionCase = {
  note: { kid: "its-kid", jti: "its-jti" },
  staleMs: 30 * second,
  startedAtMs: issuedAtMs,
  endedAtMs: issuedAtMs + 100,
};
const windowBeganMs = rejection.startedAtMs - rejection.staleMs - slackMs;
const facts: SignatureFacts = { publishedAtMs: issuedAtMs - delayMs, issuedAtMs, isKeyRevoked: false };

/** By an instance that was hindered so, and has the key or not. */
function answer(askedAtMs: number, hindrances: readonly Hindrance[], hasKey: boolean): KeyAnswer {
  return {
    askedAtMs,
    answeredAtMs: askedAtMs + 10,
    member: { name: "#1", wasCutOff: (fromMs, toMs) => wasCutOff(hindrances, fromMs, toMs) },
    denies: (kid) => !hasKey && kid === rejection.note.kid,
  };
}

function noAnswer(askedAtMs: number, answeredAtMs: number): KeyAnswer {
  return { askedAtMs, answeredAtMs, member: undefined, denies: () => false };
}

const cut = (fromMs: number, toMs: number): Hindrance => ({ kind: "cut", fromMs, toMs });

function verdictOn(
  changes: { readonly facts?: SignatureFacts | undefined; readonly answers?: readonly KeyAnswer[] },
  rejected = rejection,
) {
  const known = { facts, answers: [], ...changes };
  return judgeRejection(rejected, known.facts, known.answers, delayMs).verdict;
}

test("a rejection for which there is no reason is false", () => {
  expect(verdictOn({})).toBe("false");
  expect(verdictOn({ answers: [answer(issuedAtMs, [], true)] })).toBe("false");
});

test("so is one of a token of which the database knows nothing", () => {
  expect(verdictOn({ facts: undefined })).toBe("false");
});

test("a key that was revoked excuses it", () => {
  expect(verdictOn({ facts: { ...facts, isKeyRevoked: true } })).toBe("revoked");
});

test("a key that was younger than the delay when it signed does; one as old does not", () => {
  const aged = (ageMs: number) => verdictOn({ facts: { ...facts, publishedAtMs: issuedAtMs - ageMs } });
  expect(aged(delayMs - 1)).toBe("immature key");
  expect(aged(delayMs)).toBe("false");
});

describe("that nobody answered", () => {
  test("excuses it from when the consumer may have read last, and a request's duration before", () => {
    expect(verdictOn({ answers: [noAnswer(windowBeganMs - second, windowBeganMs)] })).toBe("nobody answered");
    expect(verdictOn({ answers: [noAnswer(windowBeganMs - second, windowBeganMs - 1)] })).toBe("false");
  });

  test("excuses it until it was rejected", () => {
    const { endedAtMs } = rejection;
    expect(verdictOn({ answers: [noAnswer(endedAtMs, endedAtMs + second)] })).toBe("nobody answered");
    expect(verdictOn({ answers: [noAnswer(endedAtMs + 1, endedAtMs + second)] })).toBe("false");
  });

  test("excuses a consumer that always reads no longer than a request lasts", () => {
    const answers = [noAnswer(rejection.startedAtMs - slackMs - 2, rejection.startedAtMs - slackMs - 1)];
    expect(verdictOn({ answers })).toBe("nobody answered");
    expect(verdictOn({ answers }, { ...rejection, staleMs: 0 })).toBe("false");
  });
});

describe("an instance that denies the key", () => {
  const { publishedAtMs } = facts;
  const askedAtMs = issuedAtMs - 10;
  const forever = Number.POSITIVE_INFINITY;
  const denied = (hindrances: readonly Hindrance[], atMs = askedAtMs) =>
    verdictOn({ answers: [answer(atMs, hindrances, false)] });

  test("excuses it where it has been cut off since before the publication", () => {
    expect(denied([cut(publishedAtMs - 1, forever)])).toBe("cut off instance");
  });

  test("does not where it was never hindered, or was slow", () => {
    expect(denied([])).toBe("false");
    expect(denied([{ kind: "slow", fromMs: publishedAtMs - 1, toMs: forever }])).toBe("false");
  });

  test("does not just after the publication either, or before it", () => {
    expect(denied([], publishedAtMs + 1)).toBe("false");
    expect(denied([cut(0, forever)], publishedAtMs)).toBe("cut off instance");
    expect(denied([cut(0, forever)], publishedAtMs - 1)).toBe("false");
  });

  test("does not once it has had a second to read before it was cut off", () => {
    expect(denied([cut(publishedAtMs + 999, forever)])).toBe("cut off instance");
    expect(denied([cut(publishedAtMs + 1000, forever)])).toBe("false");
  });

  test("does not once it has had 4 s to connect, and a second to read", () => {
    expect(denied([cut(publishedAtMs, askedAtMs - 4999)])).toBe("cut off instance");
    expect(denied([cut(publishedAtMs, askedAtMs - 5000)])).toBe("false");
    expect(denied([cut(0, publishedAtMs - 3999)], publishedAtMs + 999)).toBe("cut off instance");
    expect(denied([cut(0, publishedAtMs - 4000)], publishedAtMs + 999)).toBe("false");
  });

  test("excuses it between two faults that left it less, in whatever order they are known", () => {
    const between = (freeMs: number) => [
      cut(publishedAtMs + 10_000 + freeMs, askedAtMs),
      cut(publishedAtMs, publishedAtMs + 10_000),
    ];
    expect(denied(between(4999))).toBe("cut off instance");
    expect(denied(between(5000))).toBe("false");
  });

  test("excuses nothing where it has the key, or was asked before the consumer can have read last", () => {
    const old = { ...facts, publishedAtMs: windowBeganMs - 20_000 };
    const asked = (atMs: number, hasKey: boolean) =>
      verdictOn({ facts: old, answers: [answer(atMs, [cut(0, forever)], hasKey)] });
    expect(asked(windowBeganMs - 10, true)).toBe("false");
    expect(asked(windowBeganMs - 10, false)).toBe("cut off instance");
    expect(asked(windowBeganMs - 11, false)).toBe("false");
  });
});

describe("a consumer that was not answered in its own time", () => {
  const timedOut = "Read timed out";

  test("is excused for as long as it goes by what it had read, and 2 s", () => {
    const holdOff = createHoldOff(/timed out/, 30 * second);
    expect(holdOff.excuses("unknown key", 0)).toBe(false);
    expect(holdOff.excuses(timedOut, 10 * second)).toBe(true);
    expect(holdOff.excuses("unknown key", 42 * second)).toBe(true);
    expect(holdOff.excuses("unknown key", 42 * second + 1)).toBe(false);
  });

  test("is not where it waits as long as anybody", () => {
    expect(createHoldOff(undefined, 30 * second).excuses(timedOut, 0)).toBe(false);
  });
});

test("a hindrance counts for the part that lies within", () => {
  const hindrances = [cut(1000, 3000), cut(9000, Number.POSITIVE_INFINITY)];
  expect(cutForMs(hindrances, 2000, 10_000)).toBe(2000);
  expect(cutForMs(hindrances, 3000, 9000)).toBe(0);
});
