/**
 * Lends signatures to instances without a mature key. The record of the issued token is the request: what is signed is
 * built here from record and session, and only the 64 bytes of the signature go back, sealed.
 */

import { createBatch } from "../batch.ts";
import { type Clock, secondMs } from "../clock.ts";
import type { FleetSecrets } from "../fleet-secret.ts";
import type { KeyRing } from "../keys/key-ring.ts";
import { type LoanPost, sealSignature } from "../keys/signature-loan.ts";
import { accessTokenClaims } from "../tokens/access-token.ts";
import { isSessionSealed, type Session } from "./session.ts";

/** A row of `issued_tokens` beside its session. Times in milliseconds since 1970. */
export interface RecordedToken {
  readonly jti: string;
  readonly kid: string;
  /** The instance that recorded it. */
  readonly borrowerId: string;
  readonly clientId: string;
  readonly audience: string;
  readonly scope: string;
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
  readonly session: Session;
}

export interface SignatureLoanStore extends LoanPost {
  /** Of live sessions, and not revoked; those that are not there are left out. */
  readTokens(jtis: readonly string[]): Promise<readonly RecordedToken[]>;
}

/** Takes a request in. Never throws: what cannot be lent is not answered, and the borrower asks another. */
export type LendSignature = (jti: string) => void;

export interface LendSignatureDependencies {
  readonly issuer: string;
  readonly clock: Clock;
  readonly ring: Pick<KeyRing, "canLend" | "sign">;
  readonly secrets: FleetSecrets;
  readonly store: SignatureLoanStore;
  onLent(): void;
  onRefused(): void;
  onFailure(error: unknown): void;
}

/** Beyond this, requests would be answered too late. */
const requestsLimit = 1000;
/** The borrower waits for a second; a record that is older is nobody's any more. */
const implausibleMs = 4 * secondMs;

export function createLendSignature(deps: LendSignatureDependencies): LendSignature {
  const { store, secrets, ring, clock } = deps;

  function lend(token: RecordedToken) {
    const { jti, kid, borrowerId, session } = token;
    const isNow = Math.abs(token.issuedAtMs - clock.nowMs()) <= implausibleMs;
    if (!isNow || !ring.canLend(kid) || !isBorneOut(secrets, token)) return undefined;
    const { accountId, clientId, authTimeMs } = session;
    const grant = {
      issuer: deps.issuer,
      subject: accountId ?? clientId,
      audience: token.audience,
      clientId,
      scope: token.scope,
      sessionId: session.id,
      jti,
      ...(accountId === null ? {} : { authTimeMs }),
    };
    const claims = accessTokenClaims(grant, token.issuedAtMs, token.expiresAtMs - token.issuedAtMs);
    const signature = ring.sign(kid, claims)?.split(".")[2];
    if (signature === undefined) return undefined;
    const sealed = sealSignature(secrets, { jti, kid, borrowerId }, signature);
    return { to: borrowerId, message: { type: "answer", jti, sealed } } as const;
  }

  const requests = createBatch<string>({
    limit: requestsLimit,
    async run(jtis) {
      const tokens = await store.readTokens([...new Set(jtis)]);
      const answers = tokens.map(lend).filter((answer) => answer !== undefined);
      for (let refused = answers.length; refused < jtis.length; refused += 1) deps.onRefused();
      if (answers.length > 0) await store.send(answers);
      for (const _ of answers) deps.onLent();
    },
    onFailure: deps.onFailure,
  });
  return (jti) => {
    if (!requests(jti)) deps.onRefused();
  };
}

/** Whether the sealed session allows what the record says: the record itself anyone who writes the database can make. */
function isBorneOut(secrets: FleetSecrets, { clientId, audience, scope, session }: RecordedToken): boolean {
  const granted = session.scope.split(" ");
  const audiences = session.accountId === null ? session.audience.split(" ") : [session.audience];
  return (
    isSessionSealed(secrets, session) &&
    session.clientId === clientId &&
    audiences.includes(audience) &&
    (scope === "" || scope.split(" ").every((name) => granted.includes(name)))
  );
}
