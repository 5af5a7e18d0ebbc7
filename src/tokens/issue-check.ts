/**
 * Whether a token could be issued now, for whoever routes logins. Where others could lend, only the issuing statement's
 * own choice can tell, for it alone knows who lives.
 */

import type { MonotonicClock } from "../clock.ts";
import type { KeyRing } from "../keys/key-ring.ts";
import type { SignatureBorrower } from "./borrow-signature.ts";
import type { IssueRequest } from "./issuing.ts";

/** Never throws: where there is no answer, it is no. */
export type CanIssue = () => Promise<boolean>;

/** However often it is asked: the choice locks a key's row for a moment. */
const answerHoldsMs = 250;

export function createIssueCheck(deps: {
  readonly ring: Pick<KeyRing, "offer" | "canSign">;
  readonly borrower: Pick<SignatureBorrower, "offer">;
  readonly monotonic: MonotonicClock;
  nowMs(): number;
  /** Whether the issuing statement would choose a key. */
  findsKey(request: Omit<IssueRequest, "jti">): Promise<boolean>;
}): CanIssue {
  const { ring, borrower, monotonic } = deps;
  let asked: { readonly atMs: number; readonly answer: Promise<boolean> } | undefined;

  return () => {
    const offer = ring.offer();
    const lending = borrower.offer(offer);
    if (lending.lenders.length === 0) return Promise.resolve(ring.canSign());
    if (asked === undefined || monotonic.nowMs() - asked.atMs > answerHoldsMs) {
      const answer = deps.findsKey({ offer, lending, nowEstimateMs: deps.nowMs() }).catch(() => false);
      asked = { atMs: monotonic.nowMs(), answer };
    }
    return asked.answer;
  };
}
