/** Deletes, in small batches, what nothing can need any more; safe on every instance at once. */

import { interval, type Queryable } from "./pool.ts";

/** Per table: the key column(s), and which rows are done. Batches skip rows that another instance is deleting. */
const prunable = {
  issued_tokens: { key: "jti", done: "t.expires_at < pg_catalog.now() - interval '1 hour'" },
  sessions: { key: "id", done: "coalesce(t.ended_at, t.expires_at) < pg_catalog.now() - interval '1 day'" },
  revocations: { key: "number", done: "t.expires_at < pg_catalog.now() - interval '1 minute'" },
  login_attempts: { key: "key", done: "t.expire < extract(epoch from pg_catalog.now()) * 1000 - 3600000" },
  // By its end as published, though it ended earlier: an instance that was away would take the row for lost, and put the
  // key back without its early end, or its revocation.
  signing_keys: { key: "kid", done: "t.expires_at < pg_catalog.now() - interval '1 hour'" },
  account_addresses: {
    key: "account_id, address_block",
    done: "t.last_login_at < pg_catalog.now() - interval '30 days'",
  },
  instances: {
    key: "id",
    done: `t.heartbeat_at < pg_catalog.now() - interval '1 day' and t.revoked_at is null
           and not exists (select from keyfleet.signing_keys k where k.instance_id = t.id)`,
  },
} as const;

const batchRows = 1000;

/** Returns how many rows went, by table. Audit events go after `auditRetentionMs`. */
export async function prune(
  database: Queryable,
  auditRetentionMs: number,
): Promise<Readonly<Record<string, number>>> {
  const pruned: Record<string, number> = {};
  for (const [table, { key, done }] of Object.entries(prunable)) {
    pruned[table] = await pruneInBatches(
      database,
      `delete from keyfleet.${table} where (${key}) in
         (select ${key} from keyfleet.${table} t where ${done} limit ${batchRows} for update skip locked)`,
    );
  }
  pruned["audit_events"] = await pruneInBatches(
    database,
    `delete from keyfleet.audit_events where id in
       (select id from keyfleet.audit_events where at < pg_catalog.now() - $1::interval order by id limit ${batchRows})`,
    [interval(auditRetentionMs)],
  );
  return pruned;
}

async function pruneInBatches(
  database: Queryable,
  statement: string,
  values: readonly unknown[] = [],
): Promise<number> {
  for (let pruned = 0; ; ) {
    const { rowCount } = await database.query(statement, values);
    pruned += rowCount ?? 0;
    if ((rowCount ?? 0) < batchRows) return pruned;
  }
}
