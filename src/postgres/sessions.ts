/** The tables `sessions` and `issued_tokens`, by their issuing functions. */

import type { SessionStart, SessionStore } from "../sessions/session-store.ts";
import type { IssueOutcome, IssuingSettings } from "../tokens/issuing.ts";
import { interval, type Queryable, timestamp } from "./pool.ts";

interface IssueRow {
  outcome: "issued" | "account_changed" | "clock_differs" | "no_signing_key";
  kid: string | null;
  mature: boolean | null;
  issued_at: number | null;
}

function toOutcome(row: IssueRow | undefined): IssueOutcome {
  if (row?.outcome === "issued" && row.kid !== null && row.issued_at !== null) {
    return { outcome: "issued", kid: row.kid, mature: row.mature === true, issuedAtMs: row.issued_at };
  }
  if (row?.outcome === "account_changed") return { outcome: "authority_changed" };
  return { outcome: row?.outcome === "clock_differs" ? "clock_differs" : "no_signing_key" };
}

export function createSessionStore(database: Queryable, settings: IssuingSettings): SessionStore {
  return {
    async start({ session, seal, accountVersion, origin, refreshHash, token }: SessionStart) {
      const { rows } = await database.query<IssueRow>(
        `select outcome, kid, mature, issued_at from keyfleet.start_session(
           $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)`,
        [
          session.accountId,
          accountVersion,
          session.id,
          session.clientId,
          session.audience,
          session.scope,
          timestamp(session.authTimeMs),
          timestamp(session.expiresAtMs),
          refreshHash,
          origin.address,
          origin.addressBlock,
          origin.userAgent,
          seal.secretId,
          seal.seal,
          settings.instanceId,
          token.offer.settled,
          token.offer.unsettled,
          interval(settings.propagationDelayMs),
          timestamp(token.nowEstimateMs),
          token.jti,
          interval(settings.accessTokenTtlMs),
          interval(settings.verifyGraceMs),
        ],
      );
      return toOutcome(rows[0]);
    },
  };
}
