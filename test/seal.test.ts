import { randomBytes } from "node:crypto";
import { expect, test } from "@jest/globals";
import { createFleetSecrets } from "../src/fleet-secret.ts";
import { isSealed, sealRow } from "../src/seal.ts";

const oldSecret = randomBytes(32);
const newSecret = randomBytes(32);
const secrets = createFleetSecrets(oldSecret);
const fields = { name: "alice", version: 1, enabled: true, scopes: ["a", "b"], note: null };

test("a row keeps its seal, in whatever order its columns are named", () => {
  const seal = sealRow(secrets, "accounts", "1", fields);
  const reordered = Object.fromEntries(Object.entries(fields).reverse());
  expect(isSealed(secrets, "accounts", "1", reordered as typeof fields, seal)).toBe(true);
});

test.each([
  ["another table", "sessions", "1", fields],
  ["another id", "accounts", "2", fields],
  ["a changed column", "accounts", "1", { ...fields, enabled: false }],
  ["a column of another type", "accounts", "1", { ...fields, version: "1" }],
  ["list items cut elsewhere", "accounts", "1", { ...fields, scopes: ["a b"] }],
  ["a missing column", "accounts", "1", { name: "alice" }],
])("%s breaks it", (_, table, id, changed) => {
  const seal = sealRow(secrets, "accounts", "1", fields);
  expect(isSealed(secrets, table, id, changed, seal)).toBe(false);
});

test("a seal of a secret that is only accepted holds, and new ones are made under the current", () => {
  const seal = sealRow(secrets, "accounts", "1", fields);
  const rotated = createFleetSecrets(newSecret, [oldSecret]);
  expect(isSealed(rotated, "accounts", "1", fields, seal)).toBe(true);
  expect(sealRow(rotated, "accounts", "1", fields).secretId).toBe(createFleetSecrets(newSecret).current.id);
});

test("a seal of an unknown secret does not hold, whatever id it claims", () => {
  const foreign = sealRow(createFleetSecrets(newSecret), "accounts", "1", fields);
  expect(isSealed(secrets, "accounts", "1", fields, foreign)).toBe(false);
  expect(isSealed(secrets, "accounts", "1", fields, { ...foreign, secretId: secrets.current.id })).toBe(
    false,
  );
});

test("a truncated seal does not hold", () => {
  const { secretId, seal } = sealRow(secrets, "accounts", "1", fields);
  expect(isSealed(secrets, "accounts", "1", fields, { secretId, seal: seal.subarray(0, 8) })).toBe(false);
});

test("the secret's id tells nothing that a key is made of", () => {
  const { current } = secrets;
  expect(current.id).toMatch(/^[0-9a-f]{16}$/);
  expect(current.key("seal").toString("hex")).not.toContain(current.id);
  expect(current.key("seal").equals(current.key("password encryption"))).toBe(false);
});
