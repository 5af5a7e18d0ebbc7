/** A row of the table `sessions`, as far as it authorises. */

import type { Session } from "../sessions/session.ts";

export interface SessionRow {
  id: string;
  account_id: string | null;
  client_id: string;
  audience: string;
  scope: string;
  auth_time: number;
  expires_at: number;
  secret_id: string;
  seal: Buffer;
  generation: number;
  refresh_hash: Buffer | null;
  parent_hash: Buffer | null;
  rotated_at: number;
  rotation_salt: Buffer | null;
  rotation_secret_id: string | null;
  refresh_seal_secret_id: string | null;
  refresh_seal: Buffer | null;
}

/** The columns of a row that is named so: a table's alias, or a composite value. */
export const sessionColumns = (session: string) =>
  [
    ...["id", "account_id", "client_id", "audience", "scope", "auth_time", "expires_at", "secret_id", "seal"],
    ...["generation", "refresh_hash", "parent_hash", "rotated_at", "rotation_salt", "rotation_secret_id"],
    ...["refresh_seal_secret_id", "refresh_seal"],
  ]
    .map((column) => `(${session}).${column}`)
    .join(", ");

export function toSession(row: SessionRow): Session {
  const refresh =
    row.refresh_hash === null
      ? null
      : {
          generation: row.generation,
          refreshHash: row.refresh_hash,
          parentHash: row.parent_hash,
          rotatedAtMs: row.rotated_at,
          rotationSalt: row.rotation_salt,
          rotationSecretId: row.rotation_secret_id,
          seal: { secretId: row.refresh_seal_secret_id ?? "", seal: row.refresh_seal ?? Buffer.alloc(0) },
        };
  return {
    id: row.id,
    accountId: row.account_id,
    clientId: row.client_id,
    audience: row.audience,
    scope: row.scope,
    authTimeMs: row.auth_time,
    expiresAtMs: row.expires_at,
    seal: { secretId: row.secret_id, seal: row.seal },
    refresh,
  };
}
