import { expect, test } from "@jest/globals";
import { createRevokedSet } from "../../src/verifier/revoked-set.ts";

test("100,000 revocations are all known, and when their time has passed the memory is free again", () => {
  let nowMs = 1_800_000_000_000;
  const revoked = createRevokedSet(
    () => nowMs,
    () => nowMs,
  );
  const livesForSeconds = 3720;
  for (let number = 1; number <= 100_000; number += 1) {
    const revokedAt = Math.floor(nowMs / 1000);
    revoked.add({
      type: "session",
      id: String(number),
      revoked_at: revokedAt,
      expires_at: revokedAt + livesForSeconds,
    });
  }
  revoked.heard(nowMs / 1000);
  expect(revoked.size()).toBe(100_000);
  expect([revoked.has("session", "1"), revoked.has("session", "100000")]).toEqual([true, true]);
  nowMs += livesForSeconds * 1000;
  revoked.heard(nowMs / 1000);
  expect(revoked.size()).toBe(0);
  expect(revoked.has("session", "1")).toBe(false);
});

const epoch = "0123456789abcdef0123456789abcdef";

test("the age is that of the news, or of the last that was new, whichever is more", () => {
  let nowMs = 1_800_000_000_000;
  let steadyMs = 0;
  const revoked = createRevokedSet(
    () => nowMs,
    () => steadyMs,
  );
  const pass = (ms: number) => {
    nowMs += ms;
    steadyMs += ms;
  };
  revoked.heard(nowMs / 1000);
  expect(revoked.ageMs()).toBe(Number.POSITIVE_INFINITY);
  revoked.reached(`${epoch}:1`);
  expect(revoked.ageMs()).toBe(0);
  // Of a calendar that is a minute behind the database's, news of a minute ago look new.
  revoked.heard(nowMs / 1000 + 60);
  pass(30_000);
  expect(revoked.ageMs()).toBe(30_000);
  revoked.heard((nowMs - 45_000) / 1000);
  expect(revoked.ageMs()).toBe(30_000);
});

test("setting the calendar back makes nothing any fresher", () => {
  let nowMs = 1_800_000_000_000;
  let steadyMs = 0;
  const revoked = createRevokedSet(
    () => nowMs,
    () => steadyMs,
  );
  revoked.reached(`${epoch}:1`);
  revoked.heard(nowMs / 1000);
  steadyMs += 60_000;
  nowMs -= 3_600_000;
  expect(revoked.ageMs()).toBe(60_000);
});
