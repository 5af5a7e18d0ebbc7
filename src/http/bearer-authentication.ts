/** Access tokens presented to Keyfleet itself (RFC 6750 §2.1): in the Authorization header, nowhere else. */

import type { Request } from "express";
import { Refusal } from "../errors.ts";
import type { AccessTokenClaims } from "../protocol/access-token.ts";
import { authorizationHeaders, parseBearer } from "../protocol/bearer.ts";
import type { CheckAccessToken, CheckedToken } from "../sessions/check-access-token.ts";
import { actingOf } from "./acting.ts";
import { MalformedBearer, MissingCredentials } from "./error-response.ts";

export interface BearerAuthentication {
  /** A token of this fleet, for whichever audience, its session ended or not: what may end its own session. */
  anyToken(request: Request): Promise<CheckedToken>;
  /** A good token of an account, for this issuer as audience. */
  accountToken(request: Request): Promise<AccessTokenClaims>;
}

export function createBearerAuthentication(deps: {
  readonly check: CheckAccessToken;
  readonly issuer: string;
  readonly instanceId: string;
}): BearerAuthentication {
  async function anyToken(request: Request): Promise<CheckedToken> {
    const checked = await deps.check(readBearer(request), actingOf(request, deps.instanceId));
    if (checked === undefined) throw new Refusal("invalid_token");
    return checked;
  }

  return {
    anyToken,
    async accountToken(request) {
      const { claims, standing } = await anyToken(request);
      const isOfAccount = claims.sub !== claims.client_id;
      if (standing !== "active" || claims.aud !== deps.issuer || !isOfAccount)
        throw new Refusal("invalid_token");
      return claims;
    },
  };
}

/** Throws where there is none, where there are several, or where it is of another scheme. */
function readBearer(request: Request): string {
  const [header = "", ...others] = authorizationHeaders(request.rawHeaders);
  if (others.length > 0) throw new MalformedBearer("There is more than one Authorization header.");
  const token = parseBearer(header);
  if (token === undefined && /^bearer +\S/i.test(header))
    throw new MalformedBearer("The Authorization header is malformed.");
  if (token === undefined) throw new MissingCredentials();
  return token;
}
