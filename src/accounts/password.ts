/**
 * How a password is kept: bcrypt over base64(SHA-384(account id ‖ NFC(password))), then encrypted. So all of it
 * counts (bcrypt alone stops at 72 bytes, or at a NUL), a hash is worthless in another row, and a stolen table holds
 * nothing to crack.
 */

import { createHash } from "node:crypto";
import { type Belonging, decrypt, encrypt } from "../encryption.ts";
import type { FleetSecrets } from "../fleet-secret.ts";

/** `keyfleet`: over the digest above. `bcrypt`: over the password itself, imported, replaced at the first login. */
export type HashScheme = "keyfleet" | "bcrypt";

export interface PasswordHash {
  readonly scheme: HashScheme;
  /** A bcrypt hash in its modular crypt format. */
  readonly hash: string;
}

/**
 * `$2b$` of cost 4 to 15, for a login of cost 20 would hold a thread for minutes; `$2a$` and `$2y$` verify alike for what
 * other systems made.
 */
export const bcryptHashPattern = /^\$2[aby]\$(0[4-9]|1[0-5])\$[./A-Za-z0-9]{53}$/;

/** What is given to bcrypt: for our own scheme 64 characters of base64, from which the password cannot be read. */
export function bcryptInput(scheme: HashScheme, accountId: string, password: string): string {
  if (scheme === "bcrypt") return password;
  return createHash("sha384").update(accountId).update(password.normalize("NFC")).digest("base64");
}

function belongingTo(accountId: string): Belonging {
  return { use: "password encryption", associatedData: `accounts.password ${accountId}` };
}

/** Bound to the account id: worthless in another row. */
export function encryptHash(
  secrets: FleetSecrets,
  accountId: string,
  { scheme, hash }: PasswordHash,
): string {
  return encrypt(secrets, belongingTo(accountId), Buffer.from(`${scheme}:${hash}`));
}

/** Undefined where the text was not made for this account under an accepted secret. */
export function decryptHash(
  secrets: FleetSecrets,
  accountId: string,
  encrypted: string,
): PasswordHash | undefined {
  const plain = decrypt(secrets, belongingTo(accountId), encrypted)?.toString();
  if (plain === undefined) return undefined;
  const separator = plain.indexOf(":");
  return { scheme: plain.slice(0, separator) as HashScheme, hash: plain.slice(separator + 1) };
}
