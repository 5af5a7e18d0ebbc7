/** Loans of signatures: asked for and answered by NOTIFY, in statements of their own, for NOTIFY makes commits wait. */

import { encodeLoanMessage } from "../keys/signature-loan.ts";
import type { RecordedToken, SignatureLoanStore } from "../sessions/lend-signature.ts";
import type { Queryable } from "./pool.ts";
import { type SessionRow, sessionColumns, toSession } from "./session-row.ts";

/** The channel that an instance hears its loans on; an identifier has at most 63 bytes. */
export function loanChannel(instanceId: string): string {
  return `keyfleet_loans_${instanceId.replaceAll("-", "")}`;
}

interface RecordRow extends SessionRow {
  jti: string;
  kid: string;
  instance_id: string;
  token_client_id: string;
  token_audience: string;
  token_scope: string;
  token_issued_at: number;
  token_expires_at: number;
}

function toRecordedToken(row: RecordRow): RecordedToken {
  return {
    jti: row.jti,
    kid: row.kid,
    borrowerId: row.instance_id,
    clientId: row.token_client_id,
    audience: row.token_audience,
    scope: row.token_scope,
    issuedAtMs: row.token_issued_at,
    expiresAtMs: row.token_expires_at,
    session: toSession(row),
  };
}

export function createSignatureLoanStore(database: Queryable): SignatureLoanStore {
  return {
    async send(messages) {
      await database.query(
        "select pg_catalog.pg_notify(channel, message) from unnest($1::text[], $2::text[]) as sent (channel, message)",
        [
          messages.map(({ to }) => loanChannel(to)),
          messages.map(({ message }) => encodeLoanMessage(message)),
        ],
      );
    },
    async readTokens(jtis) {
      const { rows } = await database.query<RecordRow>(
        `select t.jti, t.kid, t.instance_id, t.client_id as token_client_id, t.audience as token_audience,
                t.scope as token_scope, t.issued_at as token_issued_at, t.expires_at as token_expires_at,
                ${sessionColumns("s")}
         from keyfleet.issued_tokens t join keyfleet.sessions s on s.id = t.session_id
         where t.jti = any ($1) and t.revoked_at is null and s.ended_at is null`,
        [jtis],
      );
      return rows.map(toRecordedToken);
    },
  };
}
