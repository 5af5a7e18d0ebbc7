/** For an instance whose keys are mature, or that is to do without others. */

import type { LenderOffer, SignatureBorrower } from "../../src/tokens/borrow-signature.ts";

export const noLending: LenderOffer = { lenders: [], avoided: [], hearing: false };

export const noLenders: SignatureBorrower = {
  offer: () => noLending,
  borrow: async () => undefined,
  onAnswer: () => undefined,
};
