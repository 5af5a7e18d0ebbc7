/** The table `login_attempts`: counters of failed logins, kept by rate-limiter-flexible. */

import { RateLimiterPostgres, RateLimiterRes } from "rate-limiter-flexible";
import type { AttemptCounter, AttemptCounters } from "../accounts/login-throttle.ts";
import type { Pool } from "./pool.ts";

/** Named statements do not survive a transaction pooler, and the library names its own: the name is left out. */
function withoutStatementNames(pool: Pool) {
  return { query: ({ text, values }: { text: string; values?: unknown[] }) => pool.query(text, values) };
}

/** `attempts` for one name from one address block in `windowMs`; ten times that for a block, and for a name. */
export function createAttemptCounters(
  pool: Pool,
  settings: { readonly attempts: number; readonly windowMs: number },
): AttemptCounters {
  const counter = (points: number): AttemptCounter => {
    const limiter = new RateLimiterPostgres({
      storeClient: withoutStatementNames(pool),
      storeType: "pool",
      schemaName: "keyfleet",
      tableName: "login_attempts",
      tableCreated: true,
      clearExpiredByTimeout: false,
      keyPrefix: "",
      points,
      duration: settings.windowMs / 1000,
    });
    return {
      async take(key) {
        try {
          await limiter.consume(key);
          return undefined;
        } catch (error) {
          if (error instanceof RateLimiterRes) return error.msBeforeNext;
          throw error;
        }
      },
      async giveBack(key) {
        await limiter.reward(key);
      },
    };
  };
  const { attempts } = settings;
  return { nameAndAddress: counter(attempts), address: counter(10 * attempts), name: counter(10 * attempts) };
}
