import { expect, test } from "@jest/globals";
import { createRevokedSet } from "../../src/verifier/revoked-set.ts";

test("100,000 revocations are all known, and when their time has passed the memory is free again", () => {
  let nowMs = 1_800_000_000_000;
  const revoked = createRevokedSet(() => nowMs);
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
