/** `POST /token`: the refresh grant and the client credentials grant (RFC 6749 §4.4, §6). */

import type { Request, Response } from "express";
import { z } from "zod";
import { Refusal } from "../errors.ts";
import { clientIdPattern, parseScope } from "../protocol/oauth.ts";
import type { IssueClientToken } from "../sessions/issue-client-token.ts";
import type { RefreshSession } from "../sessions/refresh-session.ts";
import { actingOf } from "./acting.ts";
import { canonicalAddress } from "./address.ts";
import type { ClientIdentification } from "./identify-client.ts";
import { readBody } from "./read-body.ts";

const tokenBody = z.object({
  grant_type: z.string(),
  refresh_token: z.string().optional(),
  scope: z.string().max(1024).optional(),
  audience: z.string().optional(),
  client_id: z.string().regex(clientIdPattern).optional(),
  client_secret: z.string().optional(),
});

type TokenBody = z.infer<typeof tokenBody>;

export interface TokenDependencies {
  readonly instanceId: string;
  readonly clients: ClientIdentification;
  readonly refreshSession: RefreshSession;
  readonly issueClientToken: IssueClientToken;
  readonly isIssueAddress: (address: string) => boolean;
  onOutcome(grantType: "refresh_token" | "client_credentials", outcome: string): void;
}

export function createTokenHandler(deps: TokenDependencies) {
  async function refresh(request: Request, body: TokenBody): Promise<object> {
    const { refresh_token: refreshToken } = body;
    if (refreshToken === undefined) {
      throw new Refusal("invalid_request", { description: "refresh_token is missing" });
    }
    const clientId = await deps.clients.identify(request, body);
    const who = actingOf(request, deps.instanceId, `client:${clientId}`);
    return deps.refreshSession({ refreshToken, clientId, scopes: readScopes(body.scope), who });
  }

  async function clientCredentials(request: Request, body: TokenBody): Promise<object> {
    const client = await deps.clients.authenticate(request, body);
    const address = canonicalAddress(request.ip ?? "");
    return deps.issueClientToken({
      client,
      audience: body.audience,
      scopes: readScopes(body.scope),
      address,
    });
  }

  const grants = { refresh_token: refresh, client_credentials: clientCredentials } as const;

  return async (request: Request, response: Response): Promise<void> => {
    if (!deps.isIssueAddress(canonicalAddress(request.ip ?? ""))) throw new Refusal("address_not_allowed");
    const body = readBody(request, tokenBody, ["application/x-www-form-urlencoded"]);
    const grantType = body.grant_type;
    if (grantType !== "refresh_token" && grantType !== "client_credentials") {
      throw new Refusal("unsupported_grant_type");
    }
    try {
      const tokens = await grants[grantType](request, body);
      deps.onOutcome(grantType, "success");
      response.set({ "Cache-Control": "no-store", Pragma: "no-cache" }).json(tokens);
    } catch (error) {
      deps.onOutcome(grantType, error instanceof Refusal ? error.code : "error");
      throw error;
    }
  };
}

/** Undefined where none is asked for. */
function readScopes(scope: string | undefined): readonly string[] | undefined {
  if (scope === undefined) return undefined;
  const scopes = parseScope(scope);
  if (scopes === undefined || scopes.length === 0) throw new Refusal("invalid_scope");
  return scopes;
}
