/** `GET /userinfo`, `GET /sessions`, `DELETE /sessions/:id`: what an account sees and ends of its own. */

import type { Request, Response } from "express";
import { isAccountSealed } from "../accounts/account.ts";
import type { AccountAdministrationStore } from "../accounts/account-store.ts";
import { toNumericDate } from "../clock.ts";
import { Refusal } from "../errors.ts";
import type { FleetSecrets } from "../fleet-secret.ts";
import type { SessionStore } from "../sessions/session-store.ts";
import { actingOf } from "./acting.ts";
import type { BearerAuthentication } from "./bearer-authentication.ts";

export interface AccountEndpointDependencies {
  readonly instanceId: string;
  readonly bearer: BearerAuthentication;
  readonly secrets: FleetSecrets;
  readonly accounts: Pick<AccountAdministrationStore, "findById">;
  readonly sessions: Pick<SessionStore, "listLive" | "end">;
  /** An account whose row no instance made: its name may be another's. */
  onForgedAccount(accountId: string): void;
}

export function createAccountEndpoints(deps: AccountEndpointDependencies) {
  const { bearer, accounts, sessions, secrets, instanceId } = deps;
  return {
    async userinfo(request: Request, response: Response): Promise<void> {
      const { sub } = await bearer.accountToken(request);
      const account = await accounts.findById(sub);
      if (account === undefined) throw new Refusal("invalid_token");
      if (account.id !== sub || !isAccountSealed(secrets, account)) {
        deps.onForgedAccount(sub);
        throw new Refusal("invalid_token");
      }
      response.set("Cache-Control", "no-store").json({ sub, preferred_username: account.username });
    },
    async listSessions(request: Request, response: Response): Promise<void> {
      const { sub, rid } = await bearer.accountToken(request);
      const listed = await sessions.listLive(sub);
      response.set("Cache-Control", "no-store").json({
        sessions: listed.map((session) => ({
          id: session.id,
          created_at: toNumericDate(session.createdAtMs),
          last_used_at: toNumericDate(session.lastUsedAtMs),
          client_id: session.clientId,
          address: session.address,
          user_agent: session.userAgent,
          current: session.id === rid,
        })),
      });
    },
    async endSession(request: Request, response: Response): Promise<void> {
      const { sub } = await bearer.accountToken(request);
      const { id } = request.params;
      const own = (await sessions.listLive(sub)).some((session) => session.id === id);
      if (!own) throw new Refusal("not_found", { description: "There is no such session." });
      await sessions.end(String(id), "ended_by_owner", actingOf(request, instanceId, `account:${sub}`));
      response.status(204).end();
    },
  };
}
