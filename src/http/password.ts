/** `POST /password`: a new password for the old one, with a token or a username; ends all other sessions. */

import type { Request, Response } from "express";
import { z } from "zod";
import type { AccountAdministrationStore } from "../accounts/account-store.ts";
import type { Authentication } from "../accounts/authenticate.ts";
import type { AccountManagement } from "../accounts/manage-accounts.ts";
import type { Acting, AuditLog } from "../audit.ts";
import { Refusal } from "../errors.ts";
import { actingOf } from "./acting.ts";
import { addressBlock, canonicalAddress } from "./address.ts";
import type { BearerAuthentication } from "./bearer-authentication.ts";
import { readBody } from "./read-body.ts";

const passwordBody = z.object({
  username: z.string().optional(),
  current_password: z.string(),
  new_password: z.string(),
});

export interface PasswordDependencies {
  readonly instanceId: string;
  readonly bearer: BearerAuthentication;
  readonly accounts: Pick<AccountAdministrationStore, "findById">;
  readonly authentication: Pick<Authentication, "checkPassword">;
  readonly manageAccounts: (who: Acting) => Pick<AccountManagement, "changePassword">;
  readonly audit: AuditLog;
}

export function createPasswordHandler(deps: PasswordDependencies) {
  /** Whose password it is, and the session that goes on. */
  async function identify(request: Request, username: string | undefined) {
    if (request.headers.authorization === undefined) {
      if (username === undefined)
        throw new Refusal("invalid_request", { description: "username is missing" });
      return { username, keepSessionId: undefined };
    }
    const { sub, rid } = await deps.bearer.accountToken(request);
    const account = await deps.accounts.findById(sub);
    if (account === undefined) throw new Refusal("invalid_token");
    return { username: account.username, keepSessionId: rid };
  }

  return async (request: Request, response: Response): Promise<void> => {
    const body = readBody(request, passwordBody);
    if (body.new_password.normalize("NFC") === body.current_password.normalize("NFC")) {
      throw new Refusal("invalid_request", { description: "new_password is the current one" });
    }
    const { username, keepSessionId } = await identify(request, body.username);
    const block = addressBlock(canonicalAddress(request.ip ?? ""));
    const credentials = { username, password: body.current_password, addressBlock: block };
    try {
      const account = await deps.authentication.checkPassword(credentials);
      const who = actingOf(request, deps.instanceId, `account:${account.id}`);
      await deps.manageAccounts(who).changePassword(account, body.new_password, keepSessionId);
    } catch (error) {
      if (error instanceof Refusal) {
        const who = actingOf(request, deps.instanceId);
        deps.audit.record({ event: "password_change_refused", who, detail: error.code });
      }
      throw error;
    }
    response.status(204).end();
  };
}
