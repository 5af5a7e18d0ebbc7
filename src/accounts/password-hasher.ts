/** The hashing threads: one a core, with a bounded queue in front. */

import { Piscina } from "piscina";
import { unavailable } from "../errors.ts";
import type { HashingResult, HashingTask } from "./password-worker.ts";

export interface PasswordHasher {
  /** A bcrypt hash of the input at the current cost. */
  hash(input: string): Promise<string>;
  /** Takes the time of the current cost, whether there is a hash to compare with or not. */
  verify(input: string, hash: string | undefined): Promise<boolean>;
  /** Whether a hash should be made anew: the setting has risen since. */
  isOutdated(hash: string): boolean;
  /** Tasks waiting for a thread. */
  queueLength(): number;
  close(): Promise<void>;
}

export interface PasswordHasherOptions {
  /** Where `password-worker` lies as JavaScript: a thread is given as built. */
  readonly workerUrl: URL;
  readonly cost: number;
  readonly threads: number;
  /** Tasks that may wait; one more is refused with `temporarily_unavailable`. */
  readonly queueLimit: number;
}

export function createPasswordHasher(options: PasswordHasherOptions): PasswordHasher {
  const { cost, threads, queueLimit } = options;
  const pool = new Piscina<HashingTask, HashingResult>({
    filename: options.workerUrl.href,
    name: "runHashingTask",
    minThreads: threads,
    maxThreads: threads,
  });

  async function run(task: HashingTask): Promise<HashingResult> {
    if (pool.queueSize >= queueLimit) throw unavailable("Too many logins are waiting.");
    return pool.run(task);
  }

  return {
    async hash(input) {
      const result = await run({ type: "hash", input, cost });
      if (result.type !== "hash") throw new Error("the hashing thread answered another question");
      return result.hash;
    },
    async verify(input, hash) {
      const result = await run({ type: "verify", input, hash, cost });
      return result.type === "verify" && result.matches;
    },
    isOutdated: (hash) => Number(hash.slice(4, 6)) < cost,
    queueLength: () => pool.queueSize,
    close: () => pool.close(),
  };
}
