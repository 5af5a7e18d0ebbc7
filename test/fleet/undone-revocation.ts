/** What the log is like after a revocation that was not committed; all of it in a transaction that is undone. */

import type pg from "pg";
import { replaceInFunction } from "../postgres/fleet-rows.ts";
import { readLog, revokeIds } from "../support/revocations.ts";

/**
 * By how much the number of the next revocation is above the last. `replaced` is taken out of `keyfleet.revoke` first,
 * which then finds a sequence, `numbers`.
 */
export async function numberAfterAnUndoneOne(
  pool: pg.Pool,
  replaced?: readonly [from: RegExp, to: string],
): Promise<number> {
  const client = await pool.connect();
  const last = async () => (await readLog(client)).at(-1)?.number ?? 0;
  try {
    await client.query("begin; create temporary sequence numbers");
    if (replaced !== undefined) await replaceInFunction(client, "revoke", ...replaced);
    const before = await last();
    await client.query(`select setval('numbers', ${before}); savepoint undone`);
    await revokeIds(client, 1);
    await client.query("rollback to undone");
    await revokeIds(client, 1);
    return (await last()) - before;
  } finally {
    await client.query("rollback");
    client.release();
  }
}
