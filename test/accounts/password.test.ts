import { randomBytes, randomUUID } from "node:crypto";
import { expect, test } from "@jest/globals";
import { bcryptInput, decryptHash, encryptHash } from "../../src/accounts/password.ts";
import { createFleetSecrets } from "../../src/fleet-secret.ts";

const secrets = createFleetSecrets(randomBytes(32));
const hash = "$2b$12$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234";

test("bcrypt gets 64 characters whatever the password: nothing is cut at 72 bytes or at a NUL", () => {
  const id = randomUUID();
  const long = "x".repeat(100);
  for (const [one, other] of [
    [`${long}a`, `${long}b`],
    ["a\u0000b", "a\u0000c"],
  ] as const) {
    expect(bcryptInput("keyfleet", id, one)).toMatch(/^[A-Za-z0-9+/]{64}$/);
    expect(bcryptInput("keyfleet", id, one)).not.toBe(bcryptInput("keyfleet", id, other));
  }
});

test("one password in two accounts, and composed or not, is hashed apart, and alike", () => {
  const id = randomUUID();
  expect(bcryptInput("keyfleet", id, "secret")).not.toBe(bcryptInput("keyfleet", randomUUID(), "secret"));
  expect(bcryptInput("keyfleet", id, "\u00e9")).toBe(bcryptInput("keyfleet", id, "e\u0301"));
});

test("an imported hash is over the password itself", () => {
  expect(bcryptInput("bcrypt", randomUUID(), "secret")).toBe("secret");
});

test("a stored hash is read back, also under a secret that is only accepted", () => {
  const id = randomUUID();
  const raw = randomBytes(32);
  const stored = encryptHash(createFleetSecrets(raw), id, { scheme: "keyfleet", hash });
  expect(stored).not.toContain("$2b$");
  expect(decryptHash(createFleetSecrets(randomBytes(32), [raw]), id, stored)).toEqual({
    scheme: "keyfleet",
    hash,
  });
});

test.each([
  ["of another account", (stored: string) => [randomUUID(), stored]],
  [
    "that was changed",
    (stored: string) => [
      undefined,
      `${stored.slice(0, 40)}${stored[40] === "A" ? "B" : "A"}${stored.slice(41)}`,
    ],
  ],
  ["that was cut", (stored: string) => [undefined, stored.slice(0, 30)]],
  ["under an unknown secret", (stored: string) => [undefined, `0000000000000000${stored.slice(16)}`]],
  ["that is empty", () => [undefined, ""]],
])("a stored hash %s is not read", (_, change) => {
  const id = randomUUID();
  const [otherId, changed] = change(encryptHash(secrets, id, { scheme: "bcrypt", hash }));
  expect(decryptHash(secrets, otherId ?? id, changed ?? "")).toBeUndefined();
});

test("the same hash is stored differently every time", () => {
  const id = randomUUID();
  const encrypt = () => encryptHash(secrets, id, { scheme: "keyfleet", hash });
  expect(encrypt()).not.toBe(encrypt());
});
