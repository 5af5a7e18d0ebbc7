/** An authenticated account gets a session, its first access token and its first refresh token. */

import { randomUUID } from "node:crypto";
import type { Account } from "../accounts/account.ts";
import { secondMs } from "../clock.ts";
import { Refusal } from "../errors.ts";
import type { FleetSecrets } from "../fleet-secret.ts";
import type { TokenResponse } from "../protocol/oauth.ts";
import { type AccessTokenGrant, fitsAccessToken } from "../tokens/access-token.ts";
import type { IssueRequest, IssuingSettings, NotIssued, TokenIssuer } from "../tokens/issuing.ts";
import { createRefreshToken, encodeRefreshToken, hashRefreshToken } from "../tokens/refresh-token.ts";
import { type RefreshState, type SessionOrigin, sealRefreshState, sealSession } from "./session.ts";
import type { SessionStore } from "./session-store.ts";

export interface SessionRequest {
  readonly account: Account;
  readonly clientId: string;
  readonly audience: string;
  readonly scopes: readonly string[];
  readonly origin: SessionOrigin;
}

/** Durations in milliseconds. */
export interface SessionSettings extends IssuingSettings {
  readonly refreshTokenTtlMs: number;
  readonly sessionTtlMs: number;
  readonly refreshGraceMs: number;
}

export interface SessionDependencies {
  readonly store: SessionStore;
  readonly secrets: FleetSecrets;
  readonly tokens: TokenIssuer;
  readonly settings: SessionSettings;
}

export type StartSession = (request: SessionRequest) => Promise<TokenResponse>;

/** Throws `invalid_scope` where the token would be too large, and `temporarily_unavailable`. */
export function createStartSession(deps: SessionDependencies): StartSession {
  const { store, secrets, tokens, settings } = deps;

  async function attempt(request: SessionRequest, issue: IssueRequest): Promise<TokenResponse | NotIssued> {
    const { account, clientId, audience, origin } = request;
    const nowMs = issue.nowEstimateMs;
    const scope = request.scopes.join(" ");
    const expiresAtMs = nowMs + settings.sessionTtlMs;
    const facts = {
      id: randomUUID(),
      accountId: account.id,
      clientId,
      audience,
      scope,
      authTimeMs: nowMs,
      expiresAtMs,
    };
    const grant: AccessTokenGrant = {
      issuer: settings.issuer,
      subject: account.id,
      audience,
      clientId,
      scope,
      sessionId: facts.id,
      jti: issue.jti,
      authTimeMs: nowMs,
    };
    refuseOversized(grant);
    const refreshToken = createRefreshToken(facts.id);
    const state = initialRefreshState(hashRefreshToken(refreshToken), nowMs);
    const refresh = { ...state, seal: sealRefreshState(secrets, facts.id, state) };
    const session = { ...facts, seal: sealSession(secrets, facts), refresh };
    const issued = await store.start({ session, accountVersion: account.version, origin, issue });
    if (typeof issued === "string") return issued;
    const accessToken = await tokens.sign(grant, issued);
    if (accessToken === undefined) {
      await store.abandon(facts.id, issue.jti);
      return "not_signed";
    }
    return {
      access_token: accessToken,
      token_type: "Bearer",
      expires_in: Math.floor(settings.accessTokenTtlMs / secondMs),
      refresh_token: encodeRefreshToken(secrets, refreshToken),
      refresh_expires_in: Math.floor(Math.min(settings.refreshTokenTtlMs, settings.sessionTtlMs) / secondMs),
      scope,
      session_id: facts.id,
    };
  }

  return (request) => tokens.issue((issue) => attempt(request, issue));
}

function initialRefreshState(refreshHash: Buffer, rotatedAtMs: number): RefreshState {
  return {
    generation: 0,
    refreshHash,
    parentHash: null,
    rotatedAtMs,
    rotationSalt: null,
    rotationSecretId: null,
  };
}

/** An access token is at most 1 KiB; what makes one larger is its scope. */
export function refuseOversized(grant: AccessTokenGrant): void {
  if (fitsAccessToken(grant)) return;
  throw new Refusal("invalid_scope", { description: "The token would be too large; ask for fewer scopes." });
}
