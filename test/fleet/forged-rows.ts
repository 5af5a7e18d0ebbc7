/** Rows as an instance makes them, ours or a stranger's, and what a forger does to them. */

import { randomBytes, randomUUID } from "node:crypto";
import bcrypt from "bcrypt";
import { type Account, sealAccount } from "../../src/accounts/account.ts";
import { encryptHash } from "../../src/accounts/password.ts";
import { hourMs } from "../../src/clock.ts";
import { createFleetSecrets, type FleetSecrets } from "../../src/fleet-secret.ts";
import { type KeyPublication, type PublishedKey, sealPublication } from "../../src/keys/published-key.ts";
import { generateSigningKey, thumbprint } from "../../src/keys/signing-key.ts";
import type { Seal } from "../../src/seal.ts";
import { testSecrets } from "../support/accounts.ts";

/** Of an issuer that is not ours. */
const strangersSecrets = createFleetSecrets(randomBytes(32));
export const strangersSecretId = strangersSecrets.current.id;

/** A key that is good for an hour from now; `changes` may make it bad. */
function sealedKey(secrets: FleetSecrets, changes: Partial<KeyPublication>): PublishedKey {
  const { x } = generateSigningKey("EdDSA");
  const nowMs = Date.now();
  const times = { publishedAtMs: nowMs - hourMs, activatesAtMs: nowMs - hourMs };
  const ends = { retiresAtMs: nowMs + hourMs, expiresAtMs: nowMs + 2 * hourMs };
  const facts = { x, alg: "EdDSA" as const, instanceId: randomUUID(), ...times, ...ends, ...changes };
  const publication = { kid: thumbprint(facts.x), ...facts };
  const seal = sealPublication(secrets, publication);
  return { ...publication, seal, retiredEarlyAtMs: null, revokedAtMs: null };
}

export const ourKey = (changes: Partial<KeyPublication> = {}) => sealedKey(testSecrets, changes);
export const strangersKey = (changes: Partial<KeyPublication> = {}) => sealedKey(strangersSecrets, changes);

export interface Person {
  readonly username: string;
  readonly password: string;
  readonly scopes: readonly string[];
}

export function person(username: string, scope = "orders:read"): Person {
  return { username, password: `${username}'s own password`, scopes: [scope] };
}

function sealedAccount(secrets: FleetSecrets, { username, password, scopes }: Person): Account {
  const id = randomUUID();
  const encrypted = encryptHash(secrets, id, { scheme: "bcrypt", hash: bcrypt.hashSync(password, 4) });
  const facts = { enabled: true, mustChangePassword: false, version: 1 };
  return sealAccount(secrets, { ...facts, id, username, password: encrypted, scopes });
}

export const ourAccount = (of: Person) => sealedAccount(testSecrets, of);
export const strangersAccount = (of: Person) => sealedAccount(strangersSecrets, of);

interface Sealed {
  readonly seal: Seal;
}

export const noSeal: Sealed = { seal: { secretId: "", seal: Buffer.alloc(0) } };
export const madeUpSeal: Sealed = { seal: { secretId: testSecrets.current.id, seal: randomBytes(32) } };

export function withSealOf<Row extends Sealed>(row: Row, other: Sealed): Row {
  return { ...row, seal: other.seal };
}

/** With the seal that it has, said to be made under our secret. */
export function saidToBeOurs<Row extends Sealed>(row: Row): Row {
  return { ...row, seal: { ...row.seal, secretId: testSecrets.current.id } };
}

export function withBareHash(account: Account, password: string): Account {
  return { ...account, password: bcrypt.hashSync(password, 4) };
}

export function withAnotherId(account: Account): Account {
  return { ...account, id: randomUUID() };
}
