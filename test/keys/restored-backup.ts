/** The rows of a fleet as a restored backup has them, in virtual time. */

import { type Pool, timestamp } from "../../src/postgres/pool.ts";
import { inTransaction } from "../support/database.ts";
import type { Publication } from "./fleet-record.ts";

/** Of a time before these publications, which are the newest; restored, and noticed, now. */
export async function restoreBackup(pool: Pool, lost: readonly Publication[], nowMs: number): Promise<void> {
  const backedUpAtMs = Math.min(...lost.map(({ publishedAtMs }) => publishedAtMs));
  await inTransaction(pool, async (client) => {
    await client.query("set local session_replication_role = replica");
    await client.query("delete from keyfleet.signing_keys where kid = any ($1)", [
      lost.map(({ kid }) => kid),
    ]);
    await client.query("delete from keyfleet.issued_tokens where issued_at >= $1", [timestamp(backedUpAtMs)]);
    // The version comes to the same number again by as many publications. The epoch is whoever's who notices first.
    await client.query(
      `update keyfleet.fleet_state set directory_version = directory_version - $1,
         epoch = gen_random_uuid(), complete_since = $2`,
      [lost.length, timestamp(nowMs)],
    );
  });
}
