/** The table `issued_tokens`, read with the session of a token and with what it takes to judge its absence. */

import type { IssuedTokenStore } from "../tokens/issued-token.ts";
import type { Queryable } from "./pool.ts";

interface ReadingRow {
  now: number;
  complete_since: number;
  kid: string | null;
  session_id: string;
  client_id: string;
  audience: string;
  scope: string;
  issued_at: number;
  expires_at: number;
  is_revoked: boolean;
  session_row: string | null;
  account_id: string | null;
  auth_time: number;
  is_alive: boolean;
}

export function createIssuedTokenStore(database: Queryable): IssuedTokenStore {
  return {
    async read(jti) {
      // In a cluster that took over and has not begun its epoch yet, a record may have been lost on the way.
      const { rows } = await database.query<ReadingRow>(
        `select pg_catalog.clock_timestamp() as now,
                case when t.jti is null and f.cluster_identity is distinct from keyfleet.cluster_identity()
                     then pg_catalog.clock_timestamp() else f.complete_since end as complete_since,
                t.kid, t.session_id, t.client_id, t.audience, t.scope, t.issued_at, t.expires_at,
                t.revoked_at is not null as is_revoked,
                s.id as session_row, s.account_id, s.auth_time,
                s.ended_at is null and s.expires_at > pg_catalog.clock_timestamp() as is_alive
         from keyfleet.fleet_state f
         left join keyfleet.issued_tokens t on t.jti = $1
         left join keyfleet.sessions s on s.id = t.session_id`,
        [jti],
      );
      const [row] = rows;
      if (row === undefined) throw new Error("the table fleet_state has lost its row");
      const reading = { completeSinceMs: row.complete_since, nowMs: row.now };
      if (row.kid === null) return { ...reading, record: undefined };
      const session =
        row.session_row === null
          ? null
          : { accountId: row.account_id, authTimeMs: row.auth_time, isAlive: row.is_alive };
      const record = {
        kid: row.kid,
        sessionId: row.session_id,
        clientId: row.client_id,
        audience: row.audience,
        scope: row.scope,
        issuedAtMs: row.issued_at,
        expiresAtMs: row.expires_at,
        isRevoked: row.is_revoked,
        session,
      };
      return { ...reading, record };
    },
  };
}
