/** `POST /login`: a person's username and password become a session and its tokens. */

import type { Request, Response } from "express";
import { z } from "zod";
import { grantScopes } from "../accounts/account.ts";
import type { Authenticate } from "../accounts/authenticate.ts";
import { Refusal } from "../errors.ts";
import { clientIdPattern, firstPartyClientId, parseScope } from "../protocol/oauth.ts";
import type { StartSession } from "../sessions/start-session.ts";
import { addressBlock, canonicalAddress } from "./address.ts";
import { readBody } from "./read-body.ts";

const loginBody = z.object({
  username: z.string(),
  password: z.string(),
  audience: z.string().optional(),
  scope: z.string().max(1024).optional(),
  client_id: z.string().regex(clientIdPattern).default(firstPartyClientId),
});

const userAgentMaxCharacters = 256;

export interface LoginDependencies {
  readonly authenticate: Authenticate;
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

    const account = await deps.authenticate({ ...body, addressBlock: block });
    const scopes = grantScopes(account, requestedScopes);
    if (scopes === undefined) throw new Refusal("invalid_scope");
    const userAgent = (request.get("user-agent") ?? "").slice(0, userAgentMaxCharacters);
    const origin = { address, addressBlock: block, userAgent };
    const tokens = await deps.startSession({ account, audience, scopes, origin, clientId: body.client_id });

    deps.onOutcome("success");
    response.set("Cache-Control", "no-store").json(tokens);
  }

  return async (request: Request, response: Response): Promise<void> => {
    try {
      await login(request, response);
    } catch (error) {
      deps.onOutcome(error instanceof Refusal ? error.code : "error");
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
