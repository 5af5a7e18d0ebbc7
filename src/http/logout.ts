/** `POST /logout`: ends this session, by its access token or its refresh token; or all of the account's. */

import type { Request, Response } from "express";
import { z } from "zod";
import { Refusal } from "../errors.ts";
import type { AccessTokenClaims } from "../protocol/access-token.ts";
import type { EndSession } from "../sessions/end-session.ts";
import { actingOf } from "./acting.ts";
import type { BearerAuthentication } from "./bearer-authentication.ts";
import { MissingCredentials } from "./error-response.ts";
import { readBody } from "./read-body.ts";

const logoutBody = z.object({
  refresh_token: z.string().optional(),
  all: z.union([z.boolean(), z.enum(["true", "false"]).transform((text) => text === "true")]).default(false),
});

export interface LogoutDependencies {
  readonly instanceId: string;
  readonly bearer: BearerAuthentication;
  readonly endSession: EndSession;
}

export function createLogoutHandler(deps: LogoutDependencies) {
  return async (request: Request, response: Response): Promise<void> => {
    const { refresh_token: refreshToken, all } = hasBody(request)
      ? readBody(request, logoutBody)
      : { all: false };
    if (all) {
      const { sub } = await deps.bearer.accountToken(request);
      await deps.endSession.allOfAccount(sub, actingOf(request, deps.instanceId, `account:${sub}`));
    } else if (request.headers.authorization !== undefined) {
      const { claims } = await deps.bearer.anyToken(request);
      await deps.endSession.byId(claims.rid, actingOf(request, deps.instanceId, actorOf(claims)));
    } else if (refreshToken !== undefined) {
      const isOurs = await deps.endSession.byRefreshToken(refreshToken, actingOf(request, deps.instanceId));
      if (!isOurs) throw new Refusal("invalid_grant");
    } else throw new MissingCredentials();
    response.status(204).end();
  };
}

function actorOf({ sub, client_id: clientId }: AccessTokenClaims): string {
  return sub === clientId ? `client:${clientId}` : `account:${sub}`;
}

function hasBody(request: Request): boolean {
  return Buffer.isBuffer(request.body) && request.body.length > 0;
}
