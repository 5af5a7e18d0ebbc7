/** A confidential client: a service that gets tokens for itself, introspects, and revokes (RFC 6749 §2.1). */

import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { FleetSecrets } from "../fleet-secret.ts";
import { isSealed, type Seal, type SealedFields, sealRow } from "../seal.ts";

/** What a seal covers. */
export interface ClientFacts {
  /** The `client_id`, and the `sub` of its tokens. Never a UUID, so never an account's. */
  readonly id: string;
  /** SHA-256 of its secret. */
  readonly secretHash: Buffer;
  /** Audiences it gets tokens for and introspects tokens of; the first is the default. */
  readonly audiences: readonly string[];
  /** Scope-tokens, sorted. */
  readonly scopes: readonly string[];
}

/** A row of `clients`. */
export interface Client extends ClientFacts {
  readonly seal: Seal;
}

function sealedFields({ secretHash, audiences, scopes }: ClientFacts): SealedFields {
  return { secretHash: secretHash.toString("hex"), audiences, scopes };
}

export function sealClient(secrets: FleetSecrets, facts: ClientFacts): Client {
  return { ...facts, seal: sealRow(secrets, "clients", facts.id, sealedFields(facts)) };
}

/** Whether an instance made this row. */
export function isClientSealed(secrets: FleetSecrets, client: Client): boolean {
  return isSealed(secrets, "clients", client.id, sealedFields(client), client.seal);
}

/** 256 random bits: nothing that a slow hash would make harder to guess. Known to secret scanners by its prefix. */
export function createClientSecret(): string {
  return `kfs_${randomBytes(32).toString("base64url")}`;
}

export function hashClientSecret(secret: string): Buffer {
  return createHash("sha256").update(secret).digest();
}

/** In constant time. */
export function isClientSecret(client: ClientFacts, secret: string): boolean {
  return timingSafeEqual(hashClientSecret(secret), client.secretHash);
}
