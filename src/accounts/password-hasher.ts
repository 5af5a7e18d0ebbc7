/** The hashing threads: one a core, with a bounded queue in front. */

import type { Worker } from "node:worker_threads";
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
  /** Whether the threads are started at once, rather than when they are first needed. */
  readonly isEager: boolean;
  /** Tasks that may wait; one more is refused with `temporarily_unavailable`. */
  readonly queueLimit: number;
}

export function createPasswordHasher(options: PasswordHasherOptions): PasswordHasher {
  const { cost, threads, isEager, queueLimit } = options;
  const pool = new Piscina<HashingTask, HashingResult>({
    filename: options.workerUrl.href,
    name: "runHashingTask",
    minThreads: isEager ? threads : 0,
    maxThreads: threads,
    idleTimeout: Number.POSITIVE_INFINITY,
  });
  const loaded = Promise.all(pool.threads.map(firstWord));

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
    async close() {
      for (const thread of pool.threads) thread.ref();
      await loaded;
      await pool.close();
    },
  };
}

/** A thread that is ended while it loads bcrypt ends the process, by SIGABRT (seen): so its first message is awaited. */
function firstWord(thread: Worker): Promise<void> {
  return new Promise((resolve) => {
    for (const event of ["message", "exit"]) thread.once(event, () => resolve());
  });
}
