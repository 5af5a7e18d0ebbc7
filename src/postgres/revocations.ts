/** The table `revocations`, and the epoch that its numbers are of. */

import type { Revocation, RevocationStore } from "../revocation/revocation.ts";
import { type Queryable, timestamp } from "./pool.ts";

const pageRows = 5000;

export function createRevocationStore(database: Queryable): RevocationStore & {
  /** Begins another epoch where the log may have gone back in time; true where it did. */
  checkEpoch(
    seenNumber: number,
    instanceId: string,
    isRegistering: boolean,
    lastBeatAtMs: number | null,
  ): Promise<boolean>;
} {
  return {
    async listAfter(number) {
      const entries: Revocation[] = [];
      for (let after = number; ; ) {
        const { rows } = await database.query<Revocation>(
          `select number, type, id, revoked_at as "revokedAtMs", expires_at as "expiresAtMs"
           from keyfleet.revocations
           where number > $1 and expires_at > pg_catalog.clock_timestamp()
           order by number limit ${pageRows}`,
          [after],
        );
        entries.push(...rows);
        const last = rows.at(-1);
        if (rows.length < pageRows || last === undefined) return entries;
        after = last.number;
      }
    },
    async checkEpoch(seenNumber, instanceId, isRegistering, lastBeatAtMs) {
      const { rows } = await database.query<{ renewed: boolean }>(
        "select keyfleet.check_epoch($1, $2, $3, $4) as renewed",
        [seenNumber, instanceId, isRegistering, lastBeatAtMs === null ? null : timestamp(lastBeatAtMs)],
      );
      return rows[0]?.renewed === true;
    },
  };
}
