/** Deletes, in small batches, what nothing can need any more; safe on every instance at once. */

import type { Queryable } from "./pool.ts";

/** Per table: the key column(s), and which rows are done. Batches skip rows that another instance is deleting. */
const prunable = {
  issued_tokens: { key: "jti", done: "t.expires_at < now() - interval '1 hour'" },
  sessions: { key: "id", done: "coalesce(t.ended_at, t.expires_at) < now() - interval '1 day'" },
  login_attempts: { key: "key", done: "t.expire < extract(epoch from now()) * 1000 - 3600000" },
  signing_keys: { key: "kid", done: "keyfleet.key_expiry(t) < now() - interval '1 hour'" },
  account_addresses: {
    key: "account_id, address_block",
    done: "t.last_login_at < now() - interval '30 days'",
  },
  instances: {
    key: "id",
    done: `t.heartbeat_at < now() - interval '1 day' and t.revoked_at is null
           and not exists (select from keyfleet.signing_keys k where k.instance_id = t.id)`,
  },
} as const;

const batchRows = 1000;

/** Deletes one batch a table; returns how many rows went, by table. */
export async function prune(database: Queryable): Promise<Readonly<Record<string, number>>> {
  const pruned: Record<string, number> = {};
  for (const [table, { key, done }] of Object.entries(prunable)) {
    const { rowCount } = await database.query(
      `delete from keyfleet.${table} where (${key}) in
         (select ${key} from keyfleet.${table} t where ${done} limit ${batchRows} for update skip locked)`,
    );
    pruned[table] = rowCount ?? 0;
  }
  return pruned;
}
