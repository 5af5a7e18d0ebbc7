/**
 * Whether a token could be issued now, for whoever routes logins: where a signature has to be borrowed, or a key is new,
 * only the issuing statement's own choice can tell, for it alone knows who lives.
 */

import type { Signer } from "../keys/key-ring.ts";
import type { SignatureBorrower } from "./borrow-signature.ts";
import type { IssueRequest } from "./issuing.ts";

export interface IssueCheck {
  /** Asks, where that is needed. Never throws: where there is no answer, it is no. */
  look(): Promise<void>;
  /** As of the last look. */
  canIssue(): boolean;
}

export function createIssueCheck(deps: {
  readonly signer: Pick<Signer, "offer">;
  readonly borrower: Pick<SignatureBorrower, "offer">;
  nowMs(): number;
  /** Whether the issuing statement would choose a key. */
  findsKey(request: Omit<IssueRequest, "jti">): Promise<boolean>;
}): IssueCheck {
  const { signer, borrower } = deps;
  let isLooking = false;
  let found = false;

  return {
    async look() {
      const offer = signer.offer();
      if (offer.isMature || isLooking) return;
      isLooking = true;
      found = await deps
        .findsKey({ offer, lending: borrower.offer(offer), nowEstimateMs: deps.nowMs() })
        .catch(() => false);
      isLooking = false;
    },
    canIssue: () => signer.offer().isMature || found,
  };
}
