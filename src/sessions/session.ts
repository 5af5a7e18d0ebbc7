/** A session: one row, whose id is the `rid` of its access tokens; what of it is sealed. */

import type { FleetSecrets } from "../fleet-secret.ts";
import { isSealed, type Seal, type SealedFields, sealRow } from "../seal.ts";

/** Fixed at its start. Times in whole milliseconds since 1970, proposed by the instance, so that they can be sealed. */
export interface SessionFacts {
  readonly id: string;
  /** Null: of a client, under the client credentials grant. */
  readonly accountId: string | null;
  readonly clientId: string;
  readonly audience: string;
  /** Space-separated. */
  readonly scope: string;
  readonly authTimeMs: number;
  /** The absolute end; no refresh moves it. */
  readonly expiresAtMs: number;
}

/** The moving part, which every rotation replaces and seals anew. Hashes as `hashRefreshToken` makes them. */
export interface RefreshState {
  readonly generation: number;
  readonly refreshHash: Buffer;
  readonly parentHash: Buffer | null;
  /** When the current token was made. */
  readonly rotatedAtMs: number;
  readonly rotationSalt: Buffer | null;
  readonly rotationSecretId: string | null;
}

/** A row of `sessions`, as far as it authorises. */
export interface Session extends SessionFacts {
  readonly seal: Seal;
  /** Null: of a client, which has no refresh token. */
  readonly refresh: (RefreshState & { readonly seal: Seal }) | null;
}

/** Where the login came from: shown to the account's owner, not sealed. */
export interface SessionOrigin {
  readonly address: string;
  readonly addressBlock: string;
  /** At most 256 characters. */
  readonly userAgent: string;
}

function sealedFacts(session: SessionFacts): SealedFields {
  const { accountId, clientId, audience, scope, authTimeMs, expiresAtMs } = session;
  return { accountId, clientId, audience, scope, authTimeMs, expiresAtMs };
}

function sealedRefreshState(state: RefreshState): SealedFields {
  return {
    generation: state.generation,
    refreshHash: state.refreshHash.toString("hex"),
    parentHash: state.parentHash?.toString("hex") ?? null,
    rotatedAtMs: state.rotatedAtMs,
    rotationSalt: state.rotationSalt?.toString("hex") ?? null,
    rotationSecretId: state.rotationSecretId,
  };
}

export function sealSession(secrets: FleetSecrets, facts: SessionFacts): Seal {
  return sealRow(secrets, "sessions", facts.id, sealedFacts(facts));
}

export function sealRefreshState(secrets: FleetSecrets, sessionId: string, state: RefreshState): Seal {
  return sealRow(secrets, "sessions.refresh", sessionId, sealedRefreshState(state));
}

/** Whether instances made all of this row: who it is of, what it grants, and its refresh tokens. */
export function isSessionSealed(secrets: FleetSecrets, session: Session): boolean {
  const { id, refresh } = session;
  if (!isSealed(secrets, "sessions", id, sealedFacts(session), session.seal)) return false;
  return (
    refresh === null || isSealed(secrets, "sessions.refresh", id, sealedRefreshState(refresh), refresh.seal)
  );
}
