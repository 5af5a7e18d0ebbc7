import { randomBytes, randomUUID } from "node:crypto";
import { expect, test } from "@jest/globals";
import { createFleetSecrets } from "../../src/fleet-secret.ts";
import {
  createRefreshToken,
  createRotationSalt,
  decodeRefreshToken,
  encodeRefreshToken,
  hashRefreshToken,
  successorOf,
} from "../../src/tokens/refresh-token.ts";

const rawSecret = randomBytes(32);
const secrets = createFleetSecrets(rawSecret);
const foreign = createFleetSecrets(randomBytes(32));

test("is opaque, known to secret scanners by its prefix, and 95 characters long", () => {
  const token = encodeRefreshToken(secrets, createRefreshToken(randomUUID()));
  expect(token).toMatch(/^kfr_[A-Za-z0-9_-]{91}$/);
});

test("is read back as it was made", () => {
  const token = { ...createRefreshToken(randomUUID()), generation: 2_000_000_000 };
  expect(decodeRefreshToken(secrets, encodeRefreshToken(secrets, token))).toEqual({
    ...token,
    isGenuine: true,
  });
});

test.each([
  "",
  "kfr_",
  "kfr_short",
  `kfr_${"A".repeat(92)}`,
  `xxx_${"A".repeat(91)}`,
  `kfr_${"+".repeat(91)}`,
])("%p is none at all", (text) => {
  expect(decodeRefreshToken(secrets, text)).toBeUndefined();
});

test("is genuine only with a tag of an accepted secret", () => {
  const encoded = encodeRefreshToken(secrets, createRefreshToken(randomUUID()));
  expect(decodeRefreshToken(foreign, encoded)?.isGenuine).toBe(false);
  expect(decodeRefreshToken(createFleetSecrets(randomBytes(32), [rawSecret]), encoded)?.isGenuine).toBe(true);
  const changed = `${encoded.slice(0, 40)}${encoded[40] === "A" ? "B" : "A"}${encoded.slice(41)}`;
  expect(decodeRefreshToken(secrets, changed)?.isGenuine).toBe(false);
});

test("every token of a session hashes apart: another session, generation or secret", () => {
  const token = createRefreshToken(randomUUID());
  const others = [
    { ...token, sessionId: randomUUID() },
    { ...token, generation: 1 },
    { ...token, secret: randomBytes(32) },
  ];
  for (const other of others) expect(hashRefreshToken(other).equals(hashRefreshToken(token))).toBe(false);
});

test("a successor is the same every time, and takes token, salt and secret to make", () => {
  const token = createRefreshToken(randomUUID());
  const salt = createRotationSalt();
  const successor = successorOf(token, salt, secrets.current);
  expect(successor).toMatchObject({ sessionId: token.sessionId, generation: 1 });
  expect(successorOf(token, salt, secrets.current)).toEqual(successor);
  for (const other of [
    successorOf({ ...token, secret: randomBytes(32) }, salt, secrets.current),
    successorOf(token, createRotationSalt(), secrets.current),
    successorOf(token, salt, foreign.current),
  ]) {
    expect(other.secret.equals(successor.secret)).toBe(false);
  }
});
