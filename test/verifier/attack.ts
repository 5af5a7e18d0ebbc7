/** One row of the attack suite. */

import type { VerificationErrorCode } from "../../src/verifier/index.ts";
import type { Forger } from "./forger.ts";

export type Code = VerificationErrorCode;

export interface Attack {
  readonly name: string;
  /** What `verify` throws; `accepted` marks a control beside the attacks, good as it is. */
  readonly outcome: Code | "accepted";
  /** Not always a string: callers without types pass what they like. */
  make(forger: Forger): unknown;
}

export const attack = (name: string, outcome: Attack["outcome"], make: Attack["make"]): Attack => ({
  name,
  outcome,
  make,
});
