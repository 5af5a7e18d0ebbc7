/** A session: one row, whose id is the `rid` of its access tokens; what of it is sealed. */

import type { FleetSecrets } from "../fleet-secret.ts";
import { type Seal, sealRow } from "../seal.ts";

/** Fixed at login. Times in whole milliseconds since 1970, proposed by the instance, so that they can be sealed. */
export interface SessionFacts {
  readonly id: string;
  readonly accountId: string;
  readonly clientId: string;
  readonly audience: string;
  /** Space-separated. */
  readonly scope: string;
  readonly authTimeMs: number;
  /** The absolute end; no refresh moves it. */
  readonly expiresAtMs: number;
}

/** Where the login came from: shown to the account's owner, not sealed. */
export interface SessionOrigin {
  readonly address: string;
  readonly addressBlock: string;
  /** At most 256 characters. */
  readonly userAgent: string;
}

export function sealSession(secrets: FleetSecrets, facts: SessionFacts): Seal {
  const { accountId, clientId, audience, scope, authTimeMs, expiresAtMs } = facts;
  return sealRow(secrets, "sessions", facts.id, {
    accountId,
    clientId,
    audience,
    scope,
    authTimeMs,
    expiresAtMs,
  });
}
