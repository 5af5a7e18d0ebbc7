import { randomBytes, randomUUID } from "node:crypto";
import { expect, test } from "@jest/globals";
import { createFleetSecrets } from "../../src/fleet-secret.ts";
import { createRefreshToken, encodeRefreshToken, hashRefreshToken } from "../../src/tokens/refresh-token.ts";

const secrets = createFleetSecrets(randomBytes(32));

test("is opaque, known to secret scanners by its prefix, and 95 characters long", () => {
  const token = encodeRefreshToken(secrets, createRefreshToken(randomUUID()));
  expect(token).toMatch(/^kfr_[A-Za-z0-9_-]{91}$/);
});

test("differs every time, and so does its hash", () => {
  const sessionId = randomUUID();
  const [one, other] = [createRefreshToken(sessionId), createRefreshToken(sessionId)];
  expect(encodeRefreshToken(secrets, one)).not.toBe(encodeRefreshToken(secrets, other));
  expect(hashRefreshToken(secrets, one).equals(hashRefreshToken(secrets, other))).toBe(false);
});

test("the stored hash needs the fleet's secret: the database cannot make one for a token of its own", () => {
  const token = createRefreshToken(randomUUID());
  const foreign = createFleetSecrets(randomBytes(32));
  expect(hashRefreshToken(foreign, token).equals(hashRefreshToken(secrets, token))).toBe(false);
  expect(encodeRefreshToken(secrets, token)).not.toContain(
    hashRefreshToken(secrets, token).toString("base64url"),
  );
});
