/**
 * Borrows signatures while this instance has no mature key. The lender decides nothing: what is signed is put together
 * here, from what was authenticated here, and a signature over anything else is none.
 */

import { type Batch, createBatch } from "../batch.ts";
import { type Clock, secondMs, stepThresholdMs } from "../clock.ts";
import type { FleetSecrets } from "../fleet-secret.ts";
import type { Directory } from "../keys/directory.ts";
import { type KeyOffer, statementWithinMs } from "../keys/key-ring.ts";
import { isMature, type PublishedKey, retirementMs } from "../keys/published-key.ts";
import { type LoanPost, openSignature, type SignatureLoan } from "../keys/signature-loan.ts";
import { accessTokenSigningInput, isSignedBy } from "../keys/signing-key.ts";
import type { AccessTokenClaims } from "../protocol/access-token.ts";
import type { SigningAlg } from "../protocol/jwk.ts";

/** What an instance tells the issuing statement of others, for where it has no mature key of its own. */
export interface LenderOffer {
  /** Keys of others, as this instance knows them, that are mature by when the statement comes: it can choose no other. */
  readonly lenders: readonly string[];
  /** Instances that did not answer lately. */
  readonly avoided: readonly string[];
  /** Whether an answer would be heard. */
  readonly hearing: boolean;
}

export type LoanOutcome = "borrowed" | "unsent" | "unanswered" | "false_answer";

export interface SignatureBorrower {
  offer(own: KeyOffer): LenderOffer;
  /** The compact JWS over exactly these claims; undefined where the key's owner gives no signature within a second. */
  borrow(kid: string, claims: AccessTokenClaims): Promise<string | undefined>;
  /** Takes an answer in; one that is wrong changes nothing, for anyone can write to a channel. */
  onAnswer(jti: string, sealed: string): void;
}

export interface SignatureBorrowerDependencies {
  readonly instanceId: string;
  readonly alg: SigningAlg;
  readonly clock: Clock;
  readonly directory: Pick<Directory, "snapshot" | "find">;
  readonly secrets: FleetSecrets;
  readonly post: LoanPost;
  readonly propagationDelayMs: number;
  isHearing(): boolean;
  /** `lenderId`: the instance that was asked. */
  onLoan(outcome: LoanOutcome, lenderId: string): void;
  /** Does `work` after so long, unless what it returns is called first. By default in real time. */
  readonly startTimer?: StartTimer;
}

export type StartTimer = (work: () => void, afterMs: number) => () => void;

const deadlineMs = secondMs;
const avoidedForMs = 5 * secondMs;
/** More wait for a signature than can be answered in time. */
const requestsLimit = 5000;

interface PendingLoan {
  readonly loan: SignatureLoan;
  readonly lender: PublishedKey;
  readonly signingInput: string;
  resolve(answer: LoanAnswer): void;
}

interface LoanAnswer {
  readonly outcome: LoanOutcome;
  readonly token?: string;
}

const startRealTimer: StartTimer = (work, afterMs) => {
  const timer = setTimeout(work, afterMs);
  return () => clearTimeout(timer);
};

export function createSignatureBorrower(deps: SignatureBorrowerDependencies): SignatureBorrower {
  const { instanceId, clock, directory, secrets, post, startTimer = startRealTimer } = deps;
  const pending = new Map<string, PendingLoan>();
  const avoidedUntilMs = new Map<string, number>();
  const ask: Batch<PendingLoan> = createBatch({
    limit: requestsLimit,
    run: (loans) =>
      post
        .send(
          loans.map(({ lender, loan }) => ({
            to: lender.instanceId,
            message: { type: "request", jti: loan.jti },
          })),
        )
        // Nobody was asked, so nobody is waited for, nor avoided.
        .catch(() => {
          for (const { loan } of loans) settle(loan.jti, { outcome: "unsent" });
        }),
    onFailure: () => undefined,
  });

  function lenders(): readonly PublishedKey[] {
    const nowMs = clock.nowMs();
    return directory
      .snapshot()
      .keys.filter(
        (key) =>
          key.instanceId !== instanceId &&
          retirementMs(key) > nowMs - stepThresholdMs &&
          isMature(key, deps.propagationDelayMs, nowMs + statementWithinMs),
      );
  }

  function avoided(): readonly string[] {
    const nowMs = clock.nowMs();
    for (const [id, untilMs] of avoidedUntilMs) if (untilMs <= nowMs) avoidedUntilMs.delete(id);
    return [...avoidedUntilMs.keys()];
  }

  function settle(jti: string, answer: LoanAnswer): void {
    pending.get(jti)?.resolve(answer);
    pending.delete(jti);
  }

  return {
    offer(own) {
      if (own.isMature) return { lenders: [], avoided: [], hearing: false };
      return { lenders: lenders().map(({ kid }) => kid), avoided: avoided(), hearing: deps.isHearing() };
    },
    async borrow(kid, claims) {
      const found = directory.find(kid);
      if (found.status !== "published" || found.key.instanceId === instanceId) return undefined;
      const lender = found.key;
      const { jti } = claims;
      const { outcome, token } = await new Promise<LoanAnswer>((resolve) => {
        const callOff = startTimer(() => settle(jti, { outcome: "unanswered" }), deadlineMs);
        const loan: PendingLoan = {
          loan: { jti, kid, borrowerId: instanceId },
          lender,
          signingInput: accessTokenSigningInput(deps.alg, kid, claims),
          resolve(answer) {
            callOff();
            resolve(answer);
          },
        };
        pending.set(jti, loan);
        if (!ask(loan)) settle(jti, { outcome: "unsent" });
      });
      const isLendersFault = outcome === "unanswered" && deps.isHearing();
      if (isLendersFault) avoidedUntilMs.set(lender.instanceId, clock.nowMs() + avoidedForMs);
      deps.onLoan(outcome, lender.instanceId);
      return token;
    },
    onAnswer(jti, sealed) {
      const asked = pending.get(jti);
      if (asked === undefined) return;
      const { loan, lender, signingInput } = asked;
      const signature = openSignature(secrets, loan, sealed);
      if (signature !== undefined && isSignedBy(lender.x, signingInput, signature))
        settle(jti, { outcome: "borrowed", token: `${signingInput}.${signature.toString("base64url")}` });
      else deps.onLoan("false_answer", lender.instanceId);
    },
  };
}
