import { describe, expect, test } from "@jest/globals";
import { hourMs, secondMs, toNumericDate } from "../../src/clock.ts";
import { accessTokenClaims } from "../../src/tokens/access-token.ts";
import { type IssuedToken, judgeByRecord } from "../../src/tokens/issued-token.ts";

const issuedAtMs = 1_800_000_000_400;
const lifeMs = 900 * secondMs;
const grant = {
  issuer: "https://id.example",
  subject: "an account",
  audience: "https://api.example",
  clientId: "web",
  scope: "orders:read",
  sessionId: "a session",
  jti: "a token",
  authTimeMs: issuedAtMs - hourMs,
};
const kid = "a key";
const token = { kid, claims: accessTokenClaims(grant, issuedAtMs, lifeMs) };
const record: IssuedToken = {
  kid,
  sessionId: grant.sessionId,
  clientId: grant.clientId,
  audience: grant.audience,
  scope: grant.scope,
  issuedAtMs,
  expiresAtMs: issuedAtMs + lifeMs,
  isRevoked: false,
  session: { accountId: grant.subject, authTimeMs: grant.authTimeMs, isAlive: true },
};
const complete = { completeSinceMs: issuedAtMs - hourMs, nowMs: issuedAtMs + 1000 };

describe("a token that is on record", () => {
  test("is active, whenever the record became complete", () => {
    expect(judgeByRecord(token, { record, ...complete })).toBe("active");
    expect(judgeByRecord(token, { record, ...complete, completeSinceMs: issuedAtMs + hourMs })).toBe(
      "active",
    );
  });

  test.each<[string, Partial<IssuedToken>, number]>([
    ["was revoked", { isRevoked: true }, 0],
    ["is of a session that has ended", { session: { ...record.session, isAlive: false } as never }, 0],
    ["is of a session that is gone", { session: null }, 0],
    ["has expired by the database's clock", {}, lifeMs],
  ])("is inactive, and no forgery, where it %s", (_, changes, laterMs) => {
    const reading = { record: { ...record, ...changes }, ...complete, nowMs: complete.nowMs + laterMs };
    expect(judgeByRecord(token, reading)).toBe("inactive");
  });

  test.each(["sub", "aud", "client_id", "scope", "rid"] as const)(
    "is forged where its %s differs",
    (claim) => {
      const forged = { kid, claims: { ...token.claims, [claim]: "another" } };
      expect(judgeByRecord(forged, { record, ...complete })).toBe("forged");
    },
  );
});

describe("a token that is not on record", () => {
  const iatMs = toNumericDate(issuedAtMs) * secondMs;

  test("is forged where every token of its time is", () => {
    expect(judgeByRecord(token, { record: undefined, ...complete })).toBe("forged");
    // iat is rounded down: up to a second before it became complete, it may have been issued after.
    const atTheEdge = { ...complete, completeSinceMs: iatMs - secondMs };
    expect(judgeByRecord(token, { record: undefined, ...atTheEdge })).toBe("forged");
  });

  test.each([iatMs - secondMs + 1, iatMs, issuedAtMs, issuedAtMs + hourMs])(
    "proves nothing where it may have been issued before that, or in another epoch (complete since %p)",
    (completeSinceMs) => {
      const reading = { record: undefined, ...complete, completeSinceMs };
      expect(judgeByRecord(token, reading)).toBe("inactive");
    },
  );
});
