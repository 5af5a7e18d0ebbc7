/** Sessions as commands see and end them: without the settings that issuing takes. */

import type { Acting } from "../audit.ts";
import type { SessionListing } from "../sessions/session-store.ts";
import { interval, type Queryable } from "./pool.ts";
import { actingRecord } from "./records.ts";

/** The live ones, used within `idleMs`, the latest first. */
export async function listSessionsOf(
  database: Queryable,
  accountId: string,
  idleMs: number,
): Promise<readonly SessionListing[]> {
  const { rows } = await database.query<SessionListing>(
    `select s.id, s.auth_time as "createdAtMs", s.rotated_at as "lastUsedAtMs", s.client_id as "clientId",
            s.address, s.user_agent as "userAgent"
     from keyfleet.sessions s
     where s.account_id = $1 and s.ended_at is null and s.expires_at > pg_catalog.clock_timestamp()
       and s.rotated_at + $2::interval > pg_catalog.clock_timestamp()
     order by s.rotated_at desc`,
    [accountId, interval(idleMs)],
  );
  return rows;
}

/** Ends it and tells everybody; false where it was not alive. */
export async function endSession(
  database: Queryable,
  sessionId: string,
  reason: string,
  who: Acting,
): Promise<boolean> {
  const { rows } = await database.query<{ ended: boolean }>(
    "select keyfleet.end_session($1, $2, jsonb_populate_record(null::keyfleet.acting, $3)) as ended",
    [sessionId, reason, actingRecord(who)],
  );
  return rows[0]?.ended === true;
}
