/** What every issuing statement is given and gives back, whatever the grant; and the signature that follows. */

import { type FleetClock, secondMs } from "../clock.ts";
import { unavailable } from "../errors.ts";
import type { KeyOffer, Signer } from "../keys/key-ring.ts";
import { type AccessTokenGrant, accessTokenClaims, createJti } from "./access-token.ts";

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
  /** The instance's estimate of Postgres's clock, whole milliseconds; over 2 s off, nothing is issued. */
  readonly nowEstimateMs: number;
}

/** The statement's choice: under which key, and when. */
export interface Issued {
  readonly kid: string;
  readonly mature: boolean;
  readonly issuedAtMs: number;
}

/** Nothing was issued. `authority_changed`: the row that grants it is not what it was when it was read. */
export type NotIssued = "authority_changed" | "clock_differs" | "no_signing_key";

export interface TokenIssuer {
  /**
   * Runs `attempt` until it issues: a key that was retired, or a clock reading that aged, between offer and statement
   * is worth another try. Throws `temporarily_unavailable`.
   */
  issue<Result>(attempt: (request: IssueRequest) => Promise<Result | NotIssued>): Promise<Result>;
  /** Signs at the time and under the key that the statement chose; undefined where the key is not held any more. */
  sign(grant: AccessTokenGrant, issued: Issued): string | undefined;
}

export interface TokenIssuerDependencies {
  readonly clock: FleetClock;
  readonly signer: Signer;
  readonly settings: IssuingSettings;
  onIssued(issued: Issued): void;
}

const attempts = 3;

/** A statement takes a second at most, and refuses where the clocks differ by two: the database cannot say other. */
const implausibleMs = 4 * secondMs;

const reasons: Record<NotIssued, string> = {
  authority_changed: "It has just been changed.",
  clock_differs: "The clock is being checked.",
  no_signing_key: "No signing key is ready.",
};

export function createTokenIssuer({
  clock,
  signer,
  settings,
  onIssued,
}: TokenIssuerDependencies): TokenIssuer {
  return {
    async issue(attempt) {
      let result: Awaited<ReturnType<typeof attempt>> | NotIssued = "clock_differs";
      for (let count = 0; count < attempts; count += 1) {
        if (!clock.isSteady()) break;
        result = await attempt({
          jti: createJti(),
          offer: signer.offer(),
          nowEstimateMs: Math.round(clock.nowMs()),
        });
        if (!isNotIssued(result)) return result;
        if (result === "authority_changed") break;
      }
      throw unavailable(isNotIssued(result) ? reasons[result] : reasons.no_signing_key);
    },
    sign(grant, issued) {
      // Written so that no number, which any comparison denies, is refused too.
      if (!(Math.abs(issued.issuedAtMs - clock.nowMs()) <= implausibleMs)) {
        throw new Error("the time that the issuing statement returned is not now");
      }
      const token = signer.sign(
        issued.kid,
        accessTokenClaims(grant, issued.issuedAtMs, settings.accessTokenTtlMs),
      );
      if (token !== undefined) onIssued(issued);
      return token;
    },
  };
}

function isNotIssued(result: unknown): result is NotIssued {
  return typeof result === "string" && result in reasons;
}
