/** `POST /login`: a person's username and password become a session and its tokens. */

import type { Request, Response } from "express";
import { z } from "zod";
import { grantScopes } from "../accounts/account.ts";
import type { Authentication } from "../accounts/authenticate.ts";
import type { AuditLog } from "../audit.ts";
import { Refusal } from "../errors.ts";
import { clientIdPattern, parseScope } from "../protocol/oauth.ts";
import type { StartSession } from "../sessions/start-session.ts";
import { actingOf } from "./acting.ts";
import { addressBlock, canonicalAddress } from "./address.ts";
import type { ClientIdentification } from "./identify-client.ts";
import { readBody } from "./read-body.ts";

const loginBody = z.object({
  username: z.string(),
  password: z.string(),
  audience: z.string().optional(),
  scope: z.string().max(1024).optional(),
  client_id: z.string().regex(clientIdPattern).optional(),
  client_secret: z.string().optional(),
});

const userAgentMaxCharacters = 256;

export interface LoginDependencies {
  readonly instanceId: string;
  readonly authentication: Pick<Authentication, "authenticate">;
  readonly clients: Pick<ClientIdentification, "identifyAtLogin">;
  readonly audit: AuditLog;
  readonly startSession: StartSession;
  /** Allowed audiences, the default first. */
  readonly audiences: readonly string[];
  readonly isIssueAddress: (address: string) => boolean;
  /** `success`, or the code of the refusal. */
  onOutcome(outcome: string): void;
}

export function createLoginHandler(deps: LoginDependencies) {
  async function login(request: Request, response: Response): Promise<void> {
    const address = canonicalAddress(request.ip ?? "");
    if (!deps.isIssueAddress(address)) throw new Refusal("address_not_allowed");
    const body = readBody(request, loginBody);
    const audience = readAudience(body.audience, deps.audiences);
    const requestedScopes = readScope(body.scope);
    const block = addressBlock(address);
    const clientId = await deps.clients.identifyAtLogin(request, body);

    const account = await deps.authentication.authenticate({ ...body, addressBlock: block });
    const scopes = grantScopes(account, requestedScopes);
    if (scopes === undefined) throw new Refusal("invalid_scope");
    const userAgent = (request.get("user-agent") ?? "").slice(0, userAgentMaxCharacters);
    const origin = { address, addressBlock: block, userAgent };
    const tokens = await deps.startSession({ account, audience, scopes, origin, clientId });

    deps.onOutcome("success");
    response.set({ "Cache-Control": "no-store", Pragma: "no-cache" }).json(tokens);
  }

  return async (request: Request, response: Response): Promise<void> => {
    try {
      await login(request, response);
    } catch (error) {
      deps.onOutcome(error instanceof Refusal ? error.code : "error");
      if (error instanceof Refusal) {
        deps.audit.record({
          event: "login_refused",
          who: actingOf(request, deps.instanceId),
          detail: error.code,
        });
      }
      throw error;
    }
  };
}

function readAudience(requested: string | undefined, audiences: readonly string[]): string {
  const audience = requested ?? audiences[0];
  if (audience === undefined || !audiences.includes(audience)) throw new Refusal("invalid_target");
  return audience;
}

function readScope(requested: string | undefined): readonly string[] | undefined {
  if (requested === undefined) return undefined;
  const scopes = parseScope(requested);
  if (scopes === undefined) throw new Refusal("invalid_scope");
  return scopes;
}
