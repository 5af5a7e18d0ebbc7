/**
 * A refresh token becomes a new access token and a new refresh token (RFC 6749 §6, RFC 9700 §4.14.2). What the
 * database decides by the row, it decides in one statement; what it can make up, is checked here by the seals.
 */

import type { Acting, AuditLog } from "../audit.ts";
import { secondMs } from "../clock.ts";
import { Refusal } from "../errors.ts";
import type { TokenResponse } from "../protocol/oauth.ts";
import type { AccessTokenGrant } from "../tokens/access-token.ts";
import type { IssueRequest, NotIssued } from "../tokens/issuing.ts";
import {
  createRotationSalt,
  decodeRefreshToken,
  encodeRefreshToken,
  hashRefreshToken,
  type PresentedRefreshToken,
  type RefreshToken,
  successorOf,
} from "../tokens/refresh-token.ts";
import { isSessionSealed, type RefreshState, sealRefreshState } from "./session.ts";
import type { Refreshed, RefreshRefusal } from "./session-store.ts";
import type { SessionDependencies } from "./start-session.ts";

export interface RefreshRequest {
  readonly refreshToken: string;
  /** Who asks: the session's own client, authenticated where it is confidential. */
  readonly clientId: string;
  /** Scope-tokens, no more than the session's; undefined: all of them. */
  readonly scopes: readonly string[] | undefined;
  readonly who: Acting;
}

export type RefreshSession = (request: RefreshRequest) => Promise<TokenResponse>;

export interface RefreshDependencies extends SessionDependencies {
  readonly audit: AuditLog;
  /** A session whose row no instance made. */
  onForgedSession(sessionId: string): void;
  onReused(sessionId: string): void;
}

/**
 * A rotation whose signature could not be had is tried again as a repeat of itself, which is no reuse of the token,
 * whatever REFRESH_GRACE allows to clients.
 */
const ownGraceMs = 10 * secondMs;

/** Throws `invalid_grant`, `invalid_scope` where more is asked for than the session has, `temporarily_unavailable`. */
export function createRefreshSession(deps: RefreshDependencies): RefreshSession {
  const { store, secrets, tokens, settings } = deps;

  async function attempt(
    request: RefreshRequest,
    presented: PresentedRefreshToken,
    graceMs: number,
    issue: IssueRequest,
  ): Promise<TokenResponse | NotIssued> {
    const salt = createRotationSalt();
    const rotated = successorOf(presented, salt, secrets.current);
    const next: RefreshState = {
      generation: rotated.generation,
      refreshHash: hashRefreshToken(rotated),
      parentHash: hashRefreshToken(presented),
      rotatedAtMs: issue.nowEstimateMs,
      rotationSalt: salt,
      rotationSecretId: secrets.current.id,
    };
    const { sessionId, generation, isGenuine } = presented;
    const result = await store.refresh({
      sessionId,
      generation,
      hash: next.parentHash ?? Buffer.alloc(0),
      isGenuine,
      clientId: request.clientId,
      scope: request.scopes?.join(" ") ?? null,
      graceMs,
      next: { ...next, seal: sealRefreshState(secrets, sessionId, next) },
      issue,
      who: request.who,
    });
    if (typeof result === "string")
      return isRefusal(result) ? refuse(result, sessionId, request.who) : result;
    const isGenuineGrant = isBorneOut(request, presented, graceMs, result);
    // Rotated under a secret that is accepted no more: its successor can't be made again, which is nobody's crime.
    if (isGenuineGrant && result.repeated && isOfGoneSecret(result)) refuse("stale", sessionId, request.who);
    const successor = result.repeated ? successorAgain(presented, result) : rotated;
    if (successor === undefined || !isGenuineGrant) {
      deps.onForgedSession(sessionId);
      await store.end(sessionId, "forged", request.who);
      throw new Refusal("invalid_grant");
    }
    const response = await respond(result, successor, issue);
    if (response !== undefined) return response;
    const current = result.repeated ? result.session.refresh : next;
    if (current !== null) {
      const renewed: RefreshState = { ...current, rotatedAtMs: tokens.nowMs() };
      await store.renewGrace(sessionId, { ...renewed, seal: sealRefreshState(secrets, sessionId, renewed) });
    }
    return "not_signed";
  }

  /** Whether the sealed row, and what was asked for, allow what was granted: the function that grants is only SQL. */
  function isBorneOut(
    request: RefreshRequest,
    presented: RefreshToken,
    graceMs: number,
    result: Refreshed,
  ): boolean {
    const { session, scope, repeated } = result;
    const { refresh } = session;
    if (session.id !== presented.sessionId || refresh === null || !isSessionSealed(secrets, session))
      return false;
    const isCurrent =
      refresh.generation === presented.generation && refresh.refreshHash.equals(hashRefreshToken(presented));
    const nowMs = Math.floor(result.issued.issuedAtMs);
    const idleEndMs = refresh.rotatedAtMs + settings.refreshTokenTtlMs;
    const isAlive = nowMs <= session.expiresAtMs && nowMs <= idleEndMs;
    const scopes = session.scope.split(" ");
    return (
      (repeated ? nowMs <= refresh.rotatedAtMs + graceMs : isCurrent) &&
      isAlive &&
      session.clientId === request.clientId &&
      scope === (request.scopes?.join(" ") ?? session.scope) &&
      scope.split(" ").every((name) => scopes.includes(name))
    );
  }

  /** The successor that the first use of this token was answered with; undefined where the row does not bear it out. */
  function successorAgain(presented: RefreshToken, { session }: Refreshed): RefreshToken | undefined {
    const { rotationSalt = null, rotationSecretId = null, refreshHash } = session.refresh ?? {};
    const secret = rotationSecretId === null ? undefined : secrets.byId(rotationSecretId);
    if (rotationSalt === null || secret === undefined || refreshHash === undefined) return undefined;
    const successor = successorOf(presented, rotationSalt, secret);
    return hashRefreshToken(successor).equals(refreshHash) ? successor : undefined;
  }

  function isOfGoneSecret({ session }: Refreshed): boolean {
    const secretId = session.refresh?.rotationSecretId ?? null;
    return secretId !== null && secrets.byId(secretId) === undefined;
  }

  /** Undefined where no signature could be had. */
  async function respond(
    result: Refreshed,
    successor: RefreshToken,
    issue: IssueRequest,
  ): Promise<TokenResponse | undefined> {
    const { session, scope, issued } = result;
    const { id: sessionId, accountId, audience, clientId, authTimeMs } = session;
    const grant: AccessTokenGrant = {
      issuer: settings.issuer,
      subject: accountId ?? clientId,
      audience,
      clientId,
      scope,
      sessionId,
      jti: issue.jti,
      authTimeMs,
    };
    const accessToken = await tokens.sign(grant, issued);
    if (accessToken === undefined) return undefined;
    const leftMs = Math.min(settings.refreshTokenTtlMs, session.expiresAtMs - issued.issuedAtMs);
    return {
      access_token: accessToken,
      token_type: "Bearer",
      expires_in: Math.floor(settings.accessTokenTtlMs / secondMs),
      refresh_token: encodeRefreshToken(secrets, successor),
      refresh_expires_in: Math.floor(leftMs / secondMs),
      scope,
      session_id: sessionId,
    };
  }

  function refuse(refusal: RefreshRefusal, sessionId: string, who: Acting): never {
    if (refusal === "reused") deps.onReused(sessionId);
    deps.audit.record({ event: "refresh_refused", who, detail: refusal });
    throw new Refusal(refusal === "scope_exceeded" ? "invalid_scope" : "invalid_grant");
  }

  return async (request) => {
    const presented = decodeRefreshToken(secrets, request.refreshToken);
    if (presented === undefined) {
      deps.audit.record({ event: "refresh_refused", who: request.who, detail: "malformed" });
      throw new Refusal("invalid_grant");
    }
    let graceMs = settings.refreshGraceMs;
    return tokens.issue(async (issue) => {
      const result = await attempt(request, presented, graceMs, issue);
      if (result === "not_signed") graceMs = Math.max(graceMs, ownGraceMs);
      return result;
    });
  };
}

const refusals: ReadonlySet<string> = new Set<RefreshRefusal>([
  "stale",
  "reused",
  "unknown",
  "ended",
  "other_client",
  "scope_exceeded",
]);

function isRefusal(result: RefreshRefusal | NotIssued): result is RefreshRefusal {
  return refusals.has(result);
}
