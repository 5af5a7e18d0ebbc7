/** Revocation by the client that a token was issued to: an access token alone, a refresh token with its session. */

import type { Acting } from "../audit.ts";
import { Refusal } from "../errors.ts";
import type { FleetSecrets } from "../fleet-secret.ts";
import { decodeRefreshToken, hashRefreshToken } from "../tokens/refresh-token.ts";
import type { CheckAccessToken } from "./check-access-token.ts";
import type { SessionStore } from "./session-store.ts";

/**
 * Nothing happens to an unknown and a malformed token (RFC 7009 §2.2). Throws `invalid_grant` for another client's
 * (§2.1): who forgot to say who it is would believe it had revoked it.
 */
export type RevokeToken = (token: string, clientId: string, who: Acting) => Promise<void>;

export function createRevokeToken(deps: {
  readonly store: Pick<SessionStore, "clientOf" | "endByRefreshToken" | "revokeToken">;
  readonly secrets: FleetSecrets;
  readonly check: CheckAccessToken;
}): RevokeToken {
  const { store, secrets, check } = deps;
  return async (token, clientId, who) => {
    const refreshToken = decodeRefreshToken(secrets, token);
    if (refreshToken !== undefined) {
      const owner = await store.clientOf(refreshToken.sessionId);
      if (owner === undefined) return;
      if (owner !== clientId) return refuseOthers(refreshToken.isGenuine);
      await store.endByRefreshToken(refreshToken, hashRefreshToken(refreshToken), "revoked", who);
      return;
    }
    const accessToken = await check(token, who);
    if (accessToken === undefined) return;
    if (accessToken.claims.client_id !== clientId) return refuseOthers(true);
    await store.revokeToken(accessToken.claims.jti, who);
  };
}

/** A token that was made up is nobody's. */
function refuseOthers(isGenuine: boolean): void {
  if (isGenuine)
    throw new Refusal("invalid_grant", { description: "The token was issued to another client." });
}
