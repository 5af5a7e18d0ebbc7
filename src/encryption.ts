/** Authenticated encryption under a key derived from FLEET_SECRET: AES-256-GCM, bound to what it belongs to. */

import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { FleetSecrets, SecretUse } from "./fleet-secret.ts";

const cipher = "aes-256-gcm";
const nonceBytes = 12;
const tagBytes = 16;

/** What the ciphertext is for, and of which thing: it opens for no other. */
export interface Belonging {
  readonly use: SecretUse;
  readonly associatedData: string;
}

/** `secretId.base64url(nonce ‖ ciphertext ‖ tag)`, under the current secret. */
export function encrypt(
  secrets: FleetSecrets,
  { use, associatedData }: Belonging,
  plain: Uint8Array,
): string {
  const secret = secrets.current;
  const nonce = randomBytes(nonceBytes);
  const encryption = createCipheriv(cipher, secret.key(use), nonce);
  encryption.setAAD(Buffer.from(associatedData));
  const ciphertext = Buffer.concat([encryption.update(plain), encryption.final()]);
  return `${secret.id}.${Buffer.concat([nonce, ciphertext, encryption.getAuthTag()]).toString("base64url")}`;
}

/** Undefined where the text was not made for this under an accepted secret. */
export function decrypt(
  secrets: FleetSecrets,
  { use, associatedData }: Belonging,
  encrypted: string,
): Buffer | undefined {
  const [secretId = "", body = ""] = encrypted.split(".");
  const secret = secrets.byId(secretId);
  const bytes = Buffer.from(body, "base64url");
  if (secret === undefined || bytes.length <= nonceBytes + tagBytes) return undefined;
  const decryption = createDecipheriv(cipher, secret.key(use), bytes.subarray(0, nonceBytes));
  decryption.setAAD(Buffer.from(associatedData));
  decryption.setAuthTag(bytes.subarray(-tagBytes));
  try {
    return Buffer.concat([decryption.update(bytes.subarray(nonceBytes, -tagBytes)), decryption.final()]);
  } catch {
    return undefined;
  }
}
