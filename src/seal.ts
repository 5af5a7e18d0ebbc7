/** Seals: the database keeps rows that grant authority, and cannot make one that is believed. */

import { timingSafeEqual } from "node:crypto";
import { authenticate, type FleetSecrets } from "./fleet-secret.ts";

/** What a seal covers: immutable and authorising columns by name. Times are whole milliseconds. */
export type SealedFields = Readonly<Record<string, string | number | boolean | null | readonly string[]>>;

export interface Seal {
  readonly secretId: string;
  /** HMAC-SHA-256, 32 bytes. */
  readonly seal: Buffer;
}

/** JSON of sorted pairs: no two different rows read alike. */
function encode(table: string, id: string, fields: SealedFields): string {
  const pairs = Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([table, id, pairs]);
}

/** Seals a row under the current secret. */
export function sealRow(secrets: FleetSecrets, table: string, id: string, fields: SealedFields): Seal {
  const secret = secrets.current;
  return { secretId: secret.id, seal: authenticate(secret, "seal", encode(table, id, fields)) };
}

/** Whether an instance that knows an accepted secret made exactly this row. */
export function isSealed(
  secrets: FleetSecrets,
  table: string,
  id: string,
  fields: SealedFields,
  seal: Seal,
): boolean {
  const secret = secrets.byId(seal.secretId);
  if (secret === undefined || !Buffer.isBuffer(seal.seal)) return false;
  const expected = authenticate(secret, "seal", encode(table, id, fields));
  return expected.length === seal.seal.length && timingSafeEqual(expected, seal.seal);
}
