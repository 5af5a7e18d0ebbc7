/** Whether an access token is good right now, by signature, session and record; and the alarm where one is forged. */

import type { Acting, AuditLog } from "../audit.ts";
import type { AccessTokenClaims } from "../protocol/access-token.ts";
import { type IssuedTokenStore, judgeByRecord } from "../tokens/issued-token.ts";
import type { VerifyAccessToken } from "../tokens/verify-access-token.ts";

export interface CheckedToken {
  readonly standing: "active" | "inactive";
  readonly claims: AccessTokenClaims;
}

/** Undefined where no key of this fleet signed the token, or it is not valid now. Throws what the store throws. */
export type CheckAccessToken = (token: string, who: Acting) => Promise<CheckedToken | undefined>;

export interface CheckAccessTokenDependencies {
  readonly verify: VerifyAccessToken;
  readonly store: IssuedTokenStore;
  readonly audit: AuditLog;
  /** Finds out whether the database has gone back in time: then an absent record proves nothing, and readings say so. */
  confirmRecords(): Promise<void>;
  /** A key signed what was never issued: it is in other hands. */
  onForgery(kid: string): Promise<void>;
}

export function createCheckAccessToken(deps: CheckAccessTokenDependencies): CheckAccessToken {
  return async (token, who) => {
    const verified = await deps.verify(token);
    if (verified === undefined) return undefined;
    const { claims, kid } = verified;
    const judge = async () => judgeByRecord(verified, await deps.store.read(claims.jti));
    let standing = await judge();
    if (standing === "forged") {
      await deps.confirmRecords();
      standing = await judge();
    }
    if (standing === "forged") {
      deps.audit.record({ event: "token_forged", who, kid });
      await deps.onForgery(kid);
      return undefined;
    }
    return { standing, claims };
  };
}
