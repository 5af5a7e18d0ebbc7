/** FLEET_SECRET and the keys derived from it, one for each use (HKDF-SHA-256, RFC 5869). It signs no token. */

import { createHash, createHmac, hkdfSync } from "node:crypto";

/** What a derived key is for; a key of one use is never good for another. */
export type SecretUse =
  | "seal"
  | "password encryption"
  | "refresh token successor"
  | "refresh token tag"
  | "signature loan"
  | "throttle key";

/** One fleet secret. `id` names it beside whatever was made under it and tells nothing of it. */
export interface FleetSecret {
  readonly id: string;
  /** 32 bytes, the same on every instance. */
  key(use: SecretUse): Buffer;
}

/** The secret that things are made under, and those whose work is still accepted (`FLEET_SECRET_ALSO`). */
export interface FleetSecrets {
  readonly current: FleetSecret;
  /** The current one first. */
  readonly all: readonly FleetSecret[];
  /** Undefined for the id of a secret that is not (or no longer) accepted. */
  byId(id: string): FleetSecret | undefined;
}

function derive(material: Buffer, info: string): Buffer {
  return Buffer.from(hkdfSync("sha256", material, Buffer.alloc(0), `keyfleet ${info}`, 32));
}

function createFleetSecret(material: Buffer): FleetSecret {
  const keys = new Map<SecretUse, Buffer>();
  return {
    id: createHash("sha256").update(derive(material, "secret id")).digest("hex").slice(0, 16),
    key(use) {
      const known = keys.get(use) ?? derive(material, use);
      keys.set(use, known);
      return known;
    },
  };
}

/** Takes raw secrets of 32 bytes or more: the one to seal with, then those that are only accepted. */
export function createFleetSecrets(current: Buffer, also: readonly Buffer[] = []): FleetSecrets {
  const secrets = [current, ...also].map(createFleetSecret);
  const [first] = secrets;
  if (first === undefined) throw new Error("a fleet secret is needed");
  return { current: first, all: secrets, byId: (id) => secrets.find((secret) => secret.id === id) };
}

/** HMAC-SHA-256 under the key of one use. */
export function authenticate(secret: FleetSecret, use: SecretUse, data: string | Uint8Array): Buffer {
  return createHmac("sha256", secret.key(use)).update(data).digest();
}
