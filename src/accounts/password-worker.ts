/**
 * Runs in a worker thread, where bcrypt's synchronous calls block nobody: its asynchronous ones share libuv's four
 * threads with everything else, and eight logins at once then delay a signature by a second.
 */

import { randomBytes } from "node:crypto";
import bcrypt from "bcrypt";

export type HashingTask =
  | { readonly type: "hash"; readonly input: string; readonly cost: number }
  /** `hash` undefined: there is nothing to compare with, and it must not show. */
  | {
      readonly type: "verify";
      readonly input: string;
      readonly hash: string | undefined;
      readonly cost: number;
    };

export type HashingResult =
  | { readonly type: "hash"; readonly hash: string }
  | { readonly type: "verify"; readonly matches: boolean };

const bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/** A well-formed hash that nothing matches: comparing with it is as much work as with a real one of its cost. */
function dummyHash(cost: number): string {
  const digest = Array.from(randomBytes(31), (byte) => bcryptAlphabet[byte % 64]).join("");
  return bcrypt.genSaltSync(cost) + digest;
}

/**
 * Costs 2^cost whatever the stored hash's own, lower cost: 2^c + 2^c + 2^(c+1) + … + 2^(cost-1) = 2^cost, and whatever
 * the outcome. So neither a missing account, nor an old hash, nor a disabled account can be told by its time.
 */
function verify(input: string, hash: string | undefined, cost: number): boolean {
  if (hash === undefined) {
    bcrypt.compareSync(input, dummyHash(cost));
    return false;
  }
  const matches = bcrypt.compareSync(input, hash);
  for (let padding = bcrypt.getRounds(hash); padding < cost; padding += 1) {
    bcrypt.compareSync(input, dummyHash(padding));
  }
  return matches;
}

/** piscina's entry point. */
export function runHashingTask(task: HashingTask): HashingResult {
  if (task.type === "hash") return { type: "hash", hash: bcrypt.hashSync(task.input, task.cost) };
  return { type: "verify", matches: verify(task.input, task.hash, task.cost) };
}
