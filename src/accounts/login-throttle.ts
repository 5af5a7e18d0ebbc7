/**
 * How many guesses are free. Each attempt is taken before its password is looked at, and given back where it was
 * right, so that parallel guesses cannot slip by.
 */

import { Refusal } from "../errors.ts";
import { authenticate, type FleetSecrets } from "../fleet-secret.ts";
import { createAttemptsUnderWay } from "./attempts-under-way.ts";

/** Counts within LOGIN_WINDOW, shared by all instances. */
export interface AttemptCounter {
  /** Milliseconds until the key may be tried again; undefined where this attempt is within the limit. */
  take(key: string): Promise<number | undefined>;
  giveBack(key: string): Promise<void>;
}

/** LOGIN_ATTEMPTS for one name from one address block, ten times that for a block, and for a name. */
export interface AttemptCounters {
  readonly nameAndAddress: AttemptCounter;
  readonly address: AttemptCounter;
  readonly name: AttemptCounter;
}

export interface LoginAttempt {
  /** Normalised username. */
  readonly username: string;
  readonly addressBlock: string;
  /** The account has logged in from there lately: nobody elsewhere can lock it out. */
  readonly knownAddress: boolean;
}

export interface LoginThrottle {
  /**
   * Counts the attempt, asks `isRight`, and takes the count back where it was, or where it was never judged because
   * `isRight` threw. Throws `too_many_attempts` without asking.
   */
  judge(attempt: LoginAttempt, isRight: () => Promise<boolean>): Promise<boolean>;
}

export function createLoginThrottle(counters: AttemptCounters, secrets: FleetSecrets): LoginThrottle {
  const underWay = createAttemptsUnderWay();

  /** Not the name itself: people type passwords into that field. */
  const keyFor = (kind: string, ...parts: string[]) =>
    `${kind}:${authenticate(secrets.current, "throttle key", JSON.stringify(parts)).toString("base64url")}`;

  /** An attempt under way counts as failed; before another is refused for that, its outcome is waited for. */
  async function take({ counter, key, spared }: Limit): Promise<void> {
    for (;;) {
      const waitMs = await counter.take(key);
      if (waitMs === undefined || spared) return underWay.begin(key);
      await counter.giveBack(key);
      const ended = underWay.nextEnd(key);
      if (ended === undefined) {
        throw new Refusal("too_many_attempts", { retryAfterSeconds: Math.max(1, Math.ceil(waitMs / 1000)) });
      }
      await ended;
    }
  }

  /** In this order for every attempt, so that none waits for one that waits for it. */
  function limitsOf({ username, addressBlock, knownAddress }: LoginAttempt): readonly Limit[] {
    const limits: Limit[] = [
      { counter: counters.nameAndAddress, key: keyFor("name-address", username, addressBlock) },
      { counter: counters.address, key: keyFor("address", addressBlock) },
    ];
    return [...limits, { counter: counters.name, key: keyFor("name", username), spared: knownAddress }];
  }

  return {
    async judge(attempt, isRight) {
      const taken: Limit[] = [];
      let countsAsFailed = false;
      try {
        for (const limit of limitsOf(attempt)) {
          await take(limit);
          taken.push(limit);
        }
        const right = await isRight();
        countsAsFailed = !right;
        return right;
      } finally {
        // Nobody's answer waits for this: with a database that hangs by now, the login would wait for it twice.
        const givenBack = countsAsFailed ? [] : taken.map(({ counter, key }) => counter.giveBack(key));
        void Promise.allSettled(givenBack).then(() => {
          for (const { key } of taken) underWay.end(key);
        });
      }
    },
  };
}

interface Limit {
  readonly counter: AttemptCounter;
  readonly key: string;
  /** Counted all the same, so that it takes as long; but not refused. */
  readonly spared?: boolean;
}
