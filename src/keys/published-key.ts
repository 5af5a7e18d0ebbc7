/** A published key: the row that says whose public key signs when, and the state that follows from its times. */

import type { FleetSecrets } from "../fleet-secret.ts";
import { isLowOrderPoint, kidPattern, type SigningAlg } from "../protocol/jwk.ts";
import { isSealed, type Seal, type SealedFields, sealRow } from "../seal.ts";
import { thumbprint } from "./signing-key.ts";

/** The times fixed at publication, in whole milliseconds since 1970 by Postgres's clock. */
export interface KeyTimes {
  readonly publishedAtMs: number;
  readonly activatesAtMs: number;
  readonly retiresAtMs: number;
  readonly expiresAtMs: number;
}

/** What a seal covers: everything that is fixed at publication. */
export interface KeyPublication extends KeyTimes {
  readonly kid: string;
  readonly instanceId: string;
  readonly alg: SigningAlg;
  readonly x: string;
}

/** A row of `signing_keys`. */
export interface PublishedKey extends KeyPublication {
  /** An earlier end: of a key that signed, its retirement; of one that never did, its withdrawal. */
  readonly retiredEarlyAtMs: number | null;
  readonly revokedAtMs: number | null;
  readonly seal: Seal;
}

export type KeyState = "published" | "active" | "retired" | "expired" | "revoked";

/** Where the key stops signing: as published, or earlier. */
export function retirementMs(key: PublishedKey): number {
  return Math.min(key.retiresAtMs, key.retiredEarlyAtMs ?? Number.POSITIVE_INFINITY);
}

/**
 * When the key leaves the JWKS: after its retirement, as long as published between the two, so that the longest
 * token and VERIFY_GRACE fit. A key withdrawn before its activation never signed, and leaves at once.
 */
export function expiryMs(key: PublishedKey): number {
  const endMs = retirementMs(key);
  return endMs < key.activatesAtMs ? endMs : endMs + (key.expiresAtMs - key.retiresAtMs);
}

/** Derived from the row's times and `nowMs`; stored nowhere. */
export function keyStateAt(key: PublishedKey, nowMs: number): KeyState {
  if (key.revokedAtMs !== null) return "revoked";
  if (nowMs >= expiryMs(key)) return "expired";
  if (nowMs >= retirementMs(key)) return "retired";
  return nowMs >= key.activatesAtMs ? "active" : "published";
}

/** Whether every reasonable cache has seen the key by now. */
export function isMature(key: PublishedKey, propagationDelayMs: number, nowMs: number): boolean {
  return key.publishedAtMs + propagationDelayMs <= nowMs;
}

function sealedFields(key: KeyPublication): SealedFields {
  const { instanceId, alg, x, publishedAtMs, activatesAtMs, retiresAtMs, expiresAtMs } = key;
  return { instanceId, alg, x, publishedAtMs, activatesAtMs, retiresAtMs, expiresAtMs };
}

/** Made by the publishing instance; the database cannot. */
export function sealPublication(secrets: FleetSecrets, key: KeyPublication): Seal {
  return sealRow(secrets, "signing_keys", key.kid, sealedFields(key));
}

/** Whether an instance made this row. */
export function isPublicationSealed(secrets: FleetSecrets, key: PublishedKey): boolean {
  return isSealed(secrets, "signing_keys", key.kid, sealedFields(key), key.seal);
}

export type KeyFault = "not_a_thumbprint" | "malformed" | "low_order" | "wrong_alg" | "not_sealed";

/** Whole milliseconds: a database can answer with anything, NaN included, which every comparison denies. */
export function isTime(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

function isWellFormed(key: PublishedKey): boolean {
  const { kid, x, publishedAtMs, activatesAtMs, retiresAtMs, expiresAtMs, retiredEarlyAtMs } = key;
  const times = [publishedAtMs, activatesAtMs, retiresAtMs, expiresAtMs, retiredEarlyAtMs ?? 0];
  return [kid, x].every((text) => typeof text === "string") && times.every(isTime);
}

/** Why a row must not be served; undefined where it may (invariant I6). */
export function keyFault(secrets: FleetSecrets, alg: SigningAlg, key: PublishedKey): KeyFault | undefined {
  if (!isWellFormed(key)) return "malformed";
  if (!kidPattern.test(key.kid) || key.kid !== thumbprint(key.x)) return "not_a_thumbprint";
  const publicKey = Buffer.from(key.x, "base64url");
  if (publicKey.length !== 32 || publicKey.toString("base64url") !== key.x) return "malformed";
  if (isLowOrderPoint(publicKey)) return "low_order";
  if (key.alg !== alg) return "wrong_alg";
  return isPublicationSealed(secrets, key) ? undefined : "not_sealed";
}
