/** What every issuing statement is given and gives back, whatever the grant; and the signature that follows. */

import { type FleetClock, secondMs } from "../clock.ts";
import { unavailable } from "../errors.ts";
import type { KeyOffer, Signer } from "../keys/key-ring.ts";
import { type AccessTokenGrant, accessTokenClaims, createJti } from "./access-token.ts";
import type { LenderOffer, SignatureBorrower } from "./borrow-signature.ts";
import { requireCurrentKeys } from "./require-current-keys.ts";

/** Durations in milliseconds, the same on every instance. */
export interface IssuingSettings {
  readonly instanceId: string;
  readonly issuer: string;
  readonly propagationDelayMs: number;
  readonly accessTokenTtlMs: number;
  readonly verifyGraceMs: number;
}

/** The id of the token to record, and what the statement chooses its key from. */
export interface IssueRequest {
  readonly jti: string;
  readonly offer: KeyOffer;
  readonly lending: LenderOffer;
  /** The instance's estimate of Postgres's clock, whole milliseconds; over 2 s off, nothing is issued. */
  readonly nowEstimateMs: number;
}

/** The statement's choice: under which key, and when. */
export interface Issued {
  readonly kid: string;
  readonly mature: boolean;
  readonly issuedAtMs: number;
}

/** Of the keys that this instance offered or knows, one that caches know, or have had no time to. */
export type SigningKeyKind = "mature" | "immature" | "borrowed";

/**
 * Nothing was issued. `authority_changed`: the row that grants it is not what it was when it was read. `not_signed`: the
 * key that the statement chose gave no signature, and the attempt has undone what it recorded.
 */
export type NotIssued = "authority_changed" | "clock_differs" | "no_signing_key" | "not_signed";

export interface TokenIssuer {
  /**
   * Runs `attempt` until it issues: a key that was retired, or a clock reading that aged, between offer and statement
   * is worth another try, and a lender that did not answer another lender. Throws `temporarily_unavailable`.
   */
  issue<Result>(attempt: (request: IssueRequest) => Promise<Result | NotIssued>): Promise<Result>;
  /**
   * Signs at the time and under the key that the statement chose, or has its owner sign. Undefined where the key is not
   * held any more, or its owner does not answer within a second.
   */
  sign(grant: AccessTokenGrant, issued: Issued): Promise<string | undefined>;
  /** The instance's estimate of Postgres's clock, whole milliseconds. */
  nowMs(): number;
}

export interface TokenIssuerDependencies {
  readonly clock: FleetClock;
  readonly signer: Signer;
  readonly borrower: SignatureBorrower;
  readonly settings: IssuingSettings;
  /**
   * Whether every key that can sign by now has been read. Where it has not, as after the process was stopped, a lender
   * that the fleet has would not be offered, and an own key would sign that caches do not know.
   */
  isCurrent(): Promise<boolean>;
  onIssued(issued: Issued, key: SigningKeyKind): void;
}

const attempts = 3;
/** Each may have waited a second for a lender. */
const unsignedAttempts = 2;

/** A statement takes a second at most, and refuses where the clocks differ by two: the database cannot say other. */
const implausibleMs = 4 * secondMs;

const reasons: Record<NotIssued, string> = {
  authority_changed: "It has just been changed.",
  clock_differs: "The clock is being checked.",
  no_signing_key: "No signing key is ready.",
  not_signed: "No signature could be had.",
};

export function createTokenIssuer({
  clock,
  signer,
  borrower,
  settings,
  isCurrent,
  onIssued,
}: TokenIssuerDependencies): TokenIssuer {
  const nowMs = () => Math.round(clock.nowMs());

  async function offerKeys(): Promise<KeyOffer> {
    const offer = signer.offer();
    if (offer.isMature) return offer;
    await requireCurrentKeys(isCurrent);
    return signer.offer();
  }

  return {
    nowMs,
    async issue(attempt) {
      let result: Awaited<ReturnType<typeof attempt>> | NotIssued = "clock_differs";
      for (let count = 0, unsigned = 0; count < attempts && unsigned < unsignedAttempts; count += 1) {
        if (!clock.isSteady()) break;
        const offer = await offerKeys();
        result = await attempt({
          jti: createJti(),
          offer,
          lending: borrower.offer(offer),
          nowEstimateMs: nowMs(),
        });
        if (!isNotIssued(result)) return result;
        if (result === "authority_changed") break;
        if (result === "not_signed") unsigned += 1;
      }
      throw unavailable(isNotIssued(result) ? reasons[result] : reasons.no_signing_key);
    },
    async sign(grant, issued) {
      // Written so that no number, which any comparison denies, is refused too.
      if (!(Math.abs(issued.issuedAtMs - clock.nowMs()) <= implausibleMs)) {
        throw new Error("the time that the issuing statement returned is not now");
      }
      const claims = accessTokenClaims(grant, issued.issuedAtMs, settings.accessTokenTtlMs);
      const own = signer.sign(issued.kid, claims);
      const token = own ?? (await borrower.borrow(issued.kid, claims));
      if (token !== undefined)
        onIssued(issued, own === undefined ? "borrowed" : issued.mature ? "mature" : "immature");
      return token;
    },
  };
}

function isNotIssued(result: unknown): result is NotIssued {
  return typeof result === "string" && result in reasons;
}
