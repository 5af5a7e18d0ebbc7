/** What sessions need of a store; `postgres/sessions.ts` is one. */

import type { Acting } from "../audit.ts";
import type { Seal } from "../seal.ts";
import type { Issued, IssueRequest, NotIssued } from "../tokens/issuing.ts";
import type { PresentedRefreshToken } from "../tokens/refresh-token.ts";
import type { RefreshState, Session, SessionFacts, SessionOrigin } from "./session.ts";

export interface SessionStart {
  readonly session: Session;
  /** The version of the account that was authenticated; another one by now is `authority_changed`. */
  readonly accountVersion: number;
  readonly origin: SessionOrigin;
  readonly issue: IssueRequest;
}

export interface SessionRefresh {
  readonly sessionId: string;
  readonly generation: number;
  readonly hash: Buffer;
  /** Whether the token's tag is of an accepted secret: only such a token can end a session. */
  readonly isGenuine: boolean;
  readonly clientId: string;
  /** Space-separated; null: the session's. */
  readonly scope: string | null;
  /** For how long after its first use the token may be presented again. */
  readonly graceMs: number;
  /** The moving part after a rotation. */
  readonly next: RefreshState & { readonly seal: Seal };
  readonly issue: IssueRequest;
  readonly who: Acting;
}

/** Why a refresh token is refused. `reused` has ended its session; the others changed nothing. */
export type RefreshRefusal = "stale" | "reused" | "unknown" | "ended" | "other_client" | "scope_exceeded";

/** `session` is the row as it was before: its seals are to be checked before anything is signed. */
export interface Refreshed {
  readonly repeated: boolean;
  readonly issued: Issued;
  readonly scope: string;
  readonly session: Session;
}

export interface ClientTokenRequest {
  readonly clientId: string;
  readonly clientSeal: Seal;
  /** Used where the client has no live standing session. */
  readonly newSession: SessionFacts & { readonly seal: Seal };
  readonly audience: string;
  readonly scope: string;
  readonly address: string;
  readonly issue: IssueRequest;
}

/** What the account's owner sees of a live session. */
export interface SessionListing {
  readonly id: string;
  readonly createdAtMs: number;
  readonly lastUsedAtMs: number;
  readonly clientId: string;
  readonly address: string;
  readonly userAgent: string;
}

export interface SessionStore {
  /** The issuing statement of a login: all of it is committed, or none. */
  start(start: SessionStart): Promise<Issued | NotIssued>;
  /** Removes a session, and its first token's record, that nobody was given. */
  abandon(sessionId: string, jti: string): Promise<void>;
  /** The issuing statement of a refresh: judges, rotates or ends, and records, in one. */
  refresh(refresh: SessionRefresh): Promise<Refreshed | RefreshRefusal | NotIssued>;
  /** The grace of the token that was just rotated away counts from `next.rotatedAtMs`: nobody was given its successor. */
  renewGrace(sessionId: string, next: RefreshState & { readonly seal: Seal }): Promise<void>;
  /** The issuing statement of the client credentials grant. */
  issueClientToken(request: ClientTokenRequest): Promise<{ issued: Issued; session: Session } | NotIssued>;
  /** Ends it and tells everybody; false where it was not alive. */
  end(sessionId: string, reason: string, who: Acting): Promise<boolean>;
  /** Ends the session of a token that is genuine, or that its row knows; false for any other. */
  endByRefreshToken(
    token: PresentedRefreshToken,
    hash: Buffer,
    reason: string,
    who: Acting,
  ): Promise<boolean>;
  /** The client a session is of; undefined where there is no such session. */
  clientOf(sessionId: string): Promise<string | undefined>;
  listLive(accountId: string): Promise<readonly SessionListing[]>;
  /** False where the token is unknown or revoked already. */
  revokeToken(jti: string, who: Acting): Promise<boolean>;
}
