/** The table `sessions`, by the functions that issue tokens for it and end it. */

import type { Acting } from "../audit.ts";
import type { Session, SessionOrigin } from "../sessions/session.ts";
import type {
  ClientTokenRequest,
  RefreshRefusal,
  SessionRefresh,
  SessionStart,
  SessionStore,
} from "../sessions/session-store.ts";
import type { Issued, IssuingSettings, NotIssued } from "../tokens/issuing.ts";
import { interval, type Queryable, timestamp } from "./pool.ts";
import { actingRecord, bytea, issuerRecord, sealColumns } from "./records.ts";
import { endSession, listSessionsOf } from "./session-administration.ts";
import { type SessionRow, sessionColumns, toSession } from "./session-row.ts";

interface IssueRow {
  kid: string | null;
  mature: boolean | null;
  issued_at: number | null;
}

function toIssued({ kid, mature, issued_at }: IssueRow): Issued {
  if (kid === null || issued_at === null) throw new Error("the issuing statement returned no key");
  return { kid, mature: mature === true, issuedAtMs: issued_at };
}

function factsRecord(session: Omit<Session, "refresh">, origin: Omit<SessionOrigin, "addressBlock">): object {
  return {
    id: session.id,
    account_id: session.accountId,
    client_id: session.clientId,
    audience: session.audience,
    scope: session.scope,
    auth_time: timestamp(session.authTimeMs),
    expires_at: timestamp(session.expiresAtMs),
    address: origin.address,
    user_agent: origin.userAgent,
    rotated_at: timestamp(session.authTimeMs),
    ...sealColumns(session.seal),
  };
}

function refreshRecord(state: SessionRefresh["next"]): object {
  const { refreshHash, parentHash, rotationSalt, rotatedAtMs, rotationSecretId, seal } = state;
  return {
    refresh_hash: bytea(refreshHash),
    parent_hash: parentHash && bytea(parentHash),
    rotated_at: timestamp(rotatedAtMs),
    rotation_salt: rotationSalt && bytea(rotationSalt),
    rotation_secret_id: rotationSecretId,
    refresh_seal_secret_id: seal.secretId,
    refresh_seal: bytea(seal.seal),
  };
}

export interface SessionStoreSettings extends IssuingSettings {
  readonly refreshTokenTtlMs: number;
}

/** How often a refresh may be repeated within its grace: more is no lost response any more. */
const graceUses = 10;

export function createSessionStore(database: Queryable, settings: SessionStoreSettings): SessionStore {
  return {
    async start({ session, accountVersion, origin, issue }: SessionStart) {
      const record = {
        ...factsRecord(session, origin),
        ...(session.refresh && refreshRecord(session.refresh)),
      };
      const { rows } = await database.query<IssueRow & { outcome: "issued" | NotIssued }>(
        `select outcome, kid, mature, issued_at from keyfleet.start_session(
           jsonb_populate_record(null::keyfleet.sessions, $1), $2, $3, $4,
           jsonb_populate_record(null::keyfleet.issuer, $5))`,
        [record, accountVersion, origin.addressBlock, issue.jti, issuerRecord(settings, issue)],
      );
      const row = onlyRow(rows);
      return row.outcome === "issued" ? toIssued(row) : row.outcome;
    },
    async abandon(sessionId, jti) {
      await database.query("select keyfleet.abandon_session($1, $2)", [sessionId, jti]);
    },
    async renewGrace(sessionId, next) {
      await database.query(
        "select keyfleet.renew_refresh_grace($1, jsonb_populate_record(null::keyfleet.sessions, $2))",
        [sessionId, refreshRecord(next)],
      );
    },
    async refresh({ issue, next, who, ...presented }: SessionRefresh) {
      const { rows } = await database.query<
        IssueRow &
          SessionRow & { outcome: "issued" | "repeated" | RefreshRefusal | NotIssued; granted: string }
      >(
        `select r.outcome, r.kid, r.mature, r.issued_at, r.scope as granted, ${sessionColumns("r.session")}
         from keyfleet.refresh_session(
           $1, $2, $3, $4, $5, $6, jsonb_populate_record(null::keyfleet.sessions, $7), $8, $9, $10, $11,
           jsonb_populate_record(null::keyfleet.issuer, $12), jsonb_populate_record(null::keyfleet.acting, $13)) r`,
        [
          presented.sessionId,
          presented.generation,
          presented.hash,
          presented.isGenuine,
          presented.clientId,
          presented.scope,
          refreshRecord(next),
          interval(settings.refreshTokenTtlMs),
          interval(presented.graceMs),
          graceUses,
          issue.jti,
          issuerRecord(settings, issue),
          actingRecord(who),
        ],
      );
      const row = onlyRow(rows);
      if (row.outcome !== "issued" && row.outcome !== "repeated") return row.outcome;
      const repeated = row.outcome === "repeated";
      return { repeated, issued: toIssued(row), scope: row.granted, session: toSession(row) };
    },
    async issueClientToken(request: ClientTokenRequest) {
      const origin = { address: request.address, userAgent: "" };
      const { rows } = await database.query<IssueRow & SessionRow & { outcome: "issued" | NotIssued }>(
        `select r.outcome, r.kid, r.mature, r.issued_at, ${sessionColumns("r.session")}
         from keyfleet.issue_client_token(
           $1, $2, jsonb_populate_record(null::keyfleet.sessions, $3), $4, $5, $6,
           jsonb_populate_record(null::keyfleet.issuer, $7), $8) r`,
        [
          request.clientId,
          request.clientSeal.seal,
          factsRecord(request.newSession, origin),
          request.audience,
          request.scope,
          request.issue.jti,
          issuerRecord(settings, request.issue),
          request.address,
        ],
      );
      const row = onlyRow(rows);
      return row.outcome === "issued" ? { issued: toIssued(row), session: toSession(row) } : row.outcome;
    },
    end: (sessionId, reason, who) => endSession(database, sessionId, reason, who),
    async endByRefreshToken({ sessionId, generation, isGenuine }, hash, reason, who) {
      const { rows } = await database.query<{ known: boolean }>(
        `select keyfleet.end_session_by_refresh_token(
           $1, $2, $3, $4, $5, jsonb_populate_record(null::keyfleet.acting, $6)) as known`,
        [sessionId, generation, hash, isGenuine, reason, actingRecord(who)],
      );
      return onlyRow(rows).known;
    },
    async clientOf(sessionId) {
      const { rows } = await database.query<{ client_id: string }>(
        "select client_id from keyfleet.sessions where id = $1",
        [sessionId],
      );
      return rows[0]?.client_id;
    },
    listLive: (accountId) => listSessionsOf(database, accountId, settings.refreshTokenTtlMs),
    async revokeToken(jti, who: Acting) {
      const { rows } = await database.query<{ revoked: boolean }>(
        "select keyfleet.revoke_token($1, jsonb_populate_record(null::keyfleet.acting, $2)) as revoked",
        [jti, actingRecord(who)],
      );
      return onlyRow(rows).revoked;
    },
  };
}

function onlyRow<Row>(rows: readonly Row[]): Row {
  const [row] = rows;
  if (row === undefined) throw new Error("a function returned no row");
  return row;
}
