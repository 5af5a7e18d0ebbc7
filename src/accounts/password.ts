/**
 * How a password is kept: bcrypt over base64(SHA-384(account id ‖ NFC(password))), then encrypted. So all of it
 * counts (bcrypt alone stops at 72 bytes, or at a NUL), a hash is worthless in another row, and a stolen table holds
 * nothing to crack.
 */

import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto";
import type { FleetSecrets } from "../fleet-secret.ts";

/** `keyfleet`: over the digest above. `bcrypt`: over the password itself, imported, replaced at the first login. */
export type HashScheme = "keyfleet" | "bcrypt";

export interface PasswordHash {
  readonly scheme: HashScheme;
  /** A bcrypt hash in its modular crypt format. */
  readonly hash: string;
}

const cipher = "aes-256-gcm";
const nonceBytes = 12;
const tagBytes = 16;

/** `$2b$` of cost 4 to 31; `$2a$` and `$2y$` verify alike for what other systems made. */
export const bcryptHashPattern = /^\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}$/;

/** What is given to bcrypt: for our own scheme 64 characters of base64, from which the password cannot be read. */
export function bcryptInput(scheme: HashScheme, accountId: string, password: string): string {
  if (scheme === "bcrypt") return password;
  return createHash("sha384").update(accountId).update(password.normalize("NFC")).digest("base64");
}

function associatedData(accountId: string): Buffer {
  return Buffer.from(`accounts.password ${accountId}`);
}

/** AES-256-GCM with the account id as associated data: `secretId.base64url(nonce ‖ ciphertext ‖ tag)`. */
export function encryptHash(
  secrets: FleetSecrets,
  accountId: string,
  { scheme, hash }: PasswordHash,
): string {
  const secret = secrets.current;
  const nonce = randomBytes(nonceBytes);
  const encryption = createCipheriv(cipher, secret.key("password encryption"), nonce);
  encryption.setAAD(associatedData(accountId));
  const ciphertext = Buffer.concat([encryption.update(`${scheme}:${hash}`), encryption.final()]);
  return `${secret.id}.${Buffer.concat([nonce, ciphertext, encryption.getAuthTag()]).toString("base64url")}`;
}

/** Undefined where the text was not made for this account under an accepted secret. */
export function decryptHash(
  secrets: FleetSecrets,
  accountId: string,
  encrypted: string,
): PasswordHash | undefined {
  const [secretId = "", body = ""] = encrypted.split(".");
  const secret = secrets.byId(secretId);
  const bytes = Buffer.from(body, "base64url");
  if (secret === undefined || bytes.length <= nonceBytes + tagBytes) return undefined;
  const decryption = createDecipheriv(
    cipher,
    secret.key("password encryption"),
    bytes.subarray(0, nonceBytes),
  );
  decryption.setAAD(associatedData(accountId));
  decryption.setAuthTag(bytes.subarray(-tagBytes));
  try {
    const plain = Buffer.concat([
      decryption.update(bytes.subarray(nonceBytes, -tagBytes)),
      decryption.final(),
    ]).toString();
    const separator = plain.indexOf(":");
    return { scheme: plain.slice(0, separator) as HashScheme, hash: plain.slice(separator + 1) };
  } catch {
    return undefined;
  }
}
