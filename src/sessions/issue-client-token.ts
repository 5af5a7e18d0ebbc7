/** The client credentials grant: a token for a client itself, under its standing session (RFC 6749 §4.4). */

import { randomUUID } from "node:crypto";
import type { Client } from "../clients/client.ts";
import { secondMs } from "../clock.ts";
import { Refusal } from "../errors.ts";
import { adminScope, type ClientTokenResponse } from "../protocol/oauth.ts";
import { isSessionSealed, sealSession } from "./session.ts";
import { refuseOversized, type SessionDependencies } from "./start-session.ts";

export interface ClientTokenGrant {
  /** Authenticated. */
  readonly client: Client;
  readonly audience: string | undefined;
  /** Undefined: all that the client has, but `keyfleet:admin`, which is granted only where it is named. */
  readonly scopes: readonly string[] | undefined;
  readonly address: string;
}

export type IssueClientToken = (grant: ClientTokenGrant) => Promise<ClientTokenResponse>;

/** Throws `invalid_target`, `invalid_scope`, `temporarily_unavailable`. */
export function createIssueClientToken(deps: SessionDependencies): IssueClientToken {
  const { store, secrets, tokens, settings } = deps;

  return ({ client, audience: requestedAudience, scopes: requestedScopes, address }) => {
    const audience = requestedAudience ?? client.audiences[0];
    if (audience === undefined || !client.audiences.includes(audience)) throw new Refusal("invalid_target");
    const scopes = requestedScopes ?? client.scopes.filter((scope) => scope !== adminScope);
    if (!scopes.every((scope) => client.scopes.includes(scope))) throw new Refusal("invalid_scope");
    const scope = scopes.join(" ");
    const { id: clientId, seal: clientSeal } = client;
    const identity = { issuer: settings.issuer, subject: clientId, clientId, audience, scope };
    return tokens.issue(async (issue) => {
      refuseOversized({ ...identity, sessionId: randomUUID(), jti: issue.jti });
      const authTimeMs = issue.nowEstimateMs;
      const standing = {
        audience: client.audiences.join(" "),
        scope: client.scopes.join(" "),
        clientId,
        accountId: null,
      };
      const facts = {
        ...standing,
        id: randomUUID(),
        authTimeMs,
        expiresAtMs: authTimeMs + settings.sessionTtlMs,
      };
      const newSession = { ...facts, seal: sealSession(secrets, facts) };
      const result = await store.issueClientToken({
        clientId,
        clientSeal,
        newSession,
        audience,
        scope,
        address,
        issue,
      });
      if (typeof result === "string") return result;
      const { session, issued } = result;
      if (!isSessionSealed(secrets, session) || session.clientId !== clientId || session.accountId !== null) {
        throw new Error("the client's standing session was not written by an instance");
      }
      const grant = { ...identity, sessionId: session.id, jti: issue.jti };
      const accessToken = await tokens.sign(grant, issued);
      if (accessToken === undefined) return "not_signed";
      const expiresIn = Math.floor(settings.accessTokenTtlMs / secondMs);
      return { access_token: accessToken, token_type: "Bearer" as const, expires_in: expiresIn, scope };
    });
  };
}
