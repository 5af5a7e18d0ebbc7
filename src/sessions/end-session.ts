/** Sessions end: one, or all of an account's. It is committed, and on the revocation log, before this answers. */

import type { AccountAdministrationStore } from "../accounts/account-store.ts";
import type { AccountManagement } from "../accounts/manage-accounts.ts";
import type { Acting } from "../audit.ts";
import type { FleetSecrets } from "../fleet-secret.ts";
import { decodeRefreshToken, hashRefreshToken } from "../tokens/refresh-token.ts";
import type { SessionStore } from "./session-store.ts";

export interface EndSession {
  /** That it had ended already is no error. */
  byId(sessionId: string, who: Acting): Promise<void>;
  /** False where the token is none that was ever issued; that its session had ended already is no error. */
  byRefreshToken(refreshToken: string, who: Acting): Promise<boolean>;
  /** Raises the account's version too, so that a login or refresh under way gets nothing. */
  allOfAccount(accountId: string, who: Acting): Promise<void>;
}

export function createEndSession(deps: {
  readonly store: Pick<SessionStore, "end" | "endByRefreshToken">;
  readonly secrets: FleetSecrets;
  readonly accounts: Pick<AccountAdministrationStore, "findById">;
  readonly manageAccounts: (who: Acting) => Pick<AccountManagement, "endAllSessions">;
}): EndSession {
  const { store, secrets, accounts, manageAccounts } = deps;
  return {
    async byId(sessionId, who) {
      await store.end(sessionId, "logout", who);
    },
    async byRefreshToken(refreshToken, who) {
      const presented = decodeRefreshToken(secrets, refreshToken);
      if (presented === undefined) return false;
      return store.endByRefreshToken(presented, hashRefreshToken(presented), "logout", who);
    },
    async allOfAccount(accountId, who) {
      const account = await accounts.findById(accountId);
      if (account !== undefined) await manageAccounts(who).endAllSessions(account.username);
    },
  };
}
