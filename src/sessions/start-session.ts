/** An authenticated account gets a session, its first access token and its first refresh token. */

import { randomUUID } from "node:crypto";
import type { Account } from "../accounts/account.ts";
import { type FleetClock, secondMs } from "../clock.ts";
import { Refusal, unavailable } from "../errors.ts";
import type { FleetSecrets } from "../fleet-secret.ts";
import type { Signer } from "../keys/key-ring.ts";
import type { TokenResponse } from "../protocol/oauth.ts";
import {
  type AccessTokenGrant,
  accessTokenClaims,
  createJti,
  fitsAccessToken,
} from "../tokens/access-token.ts";
import type { IssueOutcome, IssuingSettings } from "../tokens/issuing.ts";
import { createRefreshToken, encodeRefreshToken, hashRefreshToken } from "../tokens/refresh-token.ts";
import { type SessionFacts, type SessionOrigin, sealSession } from "./session.ts";
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
  readonly issuer: string;
  readonly refreshTokenTtlMs: number;
  readonly sessionTtlMs: number;
}

export interface StartSessionDependencies {
  readonly store: SessionStore;
  readonly secrets: FleetSecrets;
  readonly clock: FleetClock;
  readonly signer: Signer;
  readonly settings: SessionSettings;
  onIssued(issued: { readonly kid: string; readonly mature: boolean }): void;
}

export type StartSession = (request: SessionRequest) => Promise<TokenResponse>;

/** A key that was retired, or a clock reading that aged, between offer and statement: worth another try. */
const attempts = 3;

/** A statement takes a second at most, and refuses where the clocks differ by two: the database cannot say other. */
const implausibleMs = 4 * secondMs;

/** Throws `invalid_scope` where the token would be too large, and `temporarily_unavailable`. */
export function createStartSession(deps: StartSessionDependencies): StartSession {
  const { store, secrets, clock, signer, settings } = deps;

  return async (request) => {
    for (let attempt = 1; attempt <= attempts; attempt += 1) {
      if (!clock.isSteady()) throw unavailable("The clock is being checked.");
      const nowMs = Math.round(clock.nowMs());
      const session = sessionFacts(request, nowMs);
      const grant = accessTokenGrant(request, session);
      if (!fitsAccessToken(grant)) {
        throw new Refusal("invalid_scope", {
          description: "The token would be too large; ask for fewer scopes.",
        });
      }
      const refreshToken = createRefreshToken(session.id);
      const issued = await store.start({
        session,
        seal: sealSession(secrets, session),
        accountVersion: request.account.version,
        origin: request.origin,
        refreshHash: hashRefreshToken(secrets, refreshToken),
        token: { ...grant, offer: signer.offer(), nowEstimateMs: nowMs },
      });
      const accessToken = sign(grant, issued);
      if (accessToken === undefined) continue;
      return {
        access_token: accessToken,
        token_type: "Bearer",
        expires_in: Math.floor(settings.accessTokenTtlMs / secondMs),
        refresh_token: encodeRefreshToken(secrets, refreshToken),
        refresh_expires_in: Math.floor(
          Math.min(settings.refreshTokenTtlMs, settings.sessionTtlMs) / secondMs,
        ),
        scope: session.scope,
        session_id: session.id,
      };
    }
    throw unavailable("No signing key is ready.");
  };

  function sessionFacts(
    { account, clientId, audience, scopes }: SessionRequest,
    nowMs: number,
  ): SessionFacts {
    return {
      id: randomUUID(),
      accountId: account.id,
      clientId,
      audience,
      scope: scopes.join(" "),
      authTimeMs: nowMs,
      expiresAtMs: nowMs + settings.sessionTtlMs,
    };
  }

  function accessTokenGrant({ account }: SessionRequest, session: SessionFacts): AccessTokenGrant {
    const { id: sessionId, audience, clientId, scope, authTimeMs } = session;
    const { issuer } = settings;
    return {
      issuer,
      subject: account.id,
      audience,
      clientId,
      scope,
      sessionId,
      jti: createJti(),
      authTimeMs,
    };
  }

  /** Signs what was authenticated here, at the time and under the key that the statement chose; undefined: again. */
  function sign(grant: AccessTokenGrant, issued: IssueOutcome): string | undefined {
    if (issued.outcome === "authority_changed") throw unavailable("The account has just been changed.");
    if (issued.outcome !== "issued") return undefined;
    // Written so that no number, which any comparison denies, is refused too.
    if (!(Math.abs(issued.issuedAtMs - clock.nowMs()) <= implausibleMs))
      throw new Error("the statement's time is not now");
    const claims = accessTokenClaims(grant, issued.issuedAtMs, settings.accessTokenTtlMs);
    const token = signer.sign(issued.kid, claims);
    if (token !== undefined) deps.onIssued(issued);
    return token;
  }
}
