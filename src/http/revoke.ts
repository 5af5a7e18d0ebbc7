/** `POST /revoke`: a token its client has no more use for (RFC 7009). */

import type { Request, Response } from "express";
import { z } from "zod";
import { clientIdPattern } from "../protocol/oauth.ts";
import type { RevokeToken } from "../sessions/revoke-token.ts";
import { actingOf } from "./acting.ts";
import type { ClientIdentification } from "./identify-client.ts";
import { readBody } from "./read-body.ts";

const revokeBody = z.object({
  token: z.string(),
  token_type_hint: z.string().optional(),
  client_id: z.string().regex(clientIdPattern).optional(),
  client_secret: z.string().optional(),
});

export interface RevokeDependencies {
  readonly instanceId: string;
  readonly clients: ClientIdentification;
  readonly revokeToken: RevokeToken;
}

/** 200 whatever the token is (RFC 7009 §2.2); the hint is not needed, for the two kinds look different. */
export function createRevokeHandler(deps: RevokeDependencies) {
  return async (request: Request, response: Response): Promise<void> => {
    const body = readBody(request, revokeBody, ["application/x-www-form-urlencoded"]);
    const clientId = await deps.clients.identify(request, body);
    await deps.revokeToken(body.token, clientId, actingOf(request, deps.instanceId, `client:${clientId}`));
    response.set("Cache-Control", "no-store").status(200).end();
  };
}
