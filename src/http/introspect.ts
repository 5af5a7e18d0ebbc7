/** `POST /introspect`: whether an access token is good right now, for those who serve its audience (RFC 7662). */

import type { Request, Response } from "express";
import { z } from "zod";
import type { CheckAccessToken } from "../sessions/check-access-token.ts";
import { actingOf } from "./acting.ts";
import type { ClientIdentification } from "./identify-client.ts";
import { readBody } from "./read-body.ts";

const introspectBody = z.object({
  token: z.string(),
  token_type_hint: z.string().optional(),
  client_id: z.string().optional(),
  client_secret: z.string().optional(),
});

export interface IntrospectDependencies {
  readonly instanceId: string;
  readonly clients: ClientIdentification;
  readonly check: CheckAccessToken;
}

/** An inactive token, another audience's and anything else get exactly `{"active":false}` (RFC 7662 §2.2, §4). */
export function createIntrospectHandler(deps: IntrospectDependencies) {
  return async (request: Request, response: Response): Promise<void> => {
    const body = readBody(request, introspectBody, ["application/x-www-form-urlencoded"]);
    const client = await deps.clients.authenticate(request, body);
    const checked = await deps.check(body.token, actingOf(request, deps.instanceId, `client:${client.id}`));
    const mayKnow =
      checked !== undefined &&
      (client.audiences.includes(checked.claims.aud) || checked.claims.client_id === client.id);
    const isActive = mayKnow && checked.standing === "active";
    response
      .set("Cache-Control", "no-store")
      .json(isActive ? { active: true, token_type: "Bearer", ...checked.claims } : { active: false });
  };
}
