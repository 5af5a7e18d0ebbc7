/**
 * Whether a token could be issued now, for whoever routes logins. Where others could lend, only the issuing statement's
 * own choice can tell, for it alone knows who lives.
 */

import type { KeyRing } from "../keys/key-ring.ts";
import type { SignatureBorrower } from "./borrow-signature.ts";
import type { IssueRequest } from "./issuing.ts";

export interface IssueCheck {
  /** Asks, where that is needed. Never throws: where there is no answer, it is no. */
  look(): Promise<void>;
  /** As of the last look. */
  canIssue(): boolean;
}

export function createIssueCheck(deps: {
  readonly ring: Pick<KeyRing, "offer" | "canSign">;
  readonly borrower: Pick<SignatureBorrower, "offer">;
  nowMs(): number;
  /** Whether the issuing statement would choose a key. */
  findsKey(request: Omit<IssueRequest, "jti">): Promise<boolean>;
}): IssueCheck {
  const { ring, borrower } = deps;
  let isLooking = false;
  let found = false;

  const knowsLenders = () => borrower.offer(ring.offer()).lenders.length > 0;

  return {
    async look() {
      if (isLooking || !knowsLenders()) return;
      isLooking = true;
      const offer = ring.offer();
      found = await deps
        .findsKey({ offer, lending: borrower.offer(offer), nowEstimateMs: deps.nowMs() })
        .catch(() => false);
      isLooking = false;
    },
    canIssue: () => (knowsLenders() ? found : ring.canSign()),
  };
}
