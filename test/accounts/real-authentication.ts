/** Authentication as an instance wires it up, in this process: real Postgres, real hashing threads. */

import type { Account } from "../../src/accounts/account.ts";
import { createAuthentication } from "../../src/accounts/authenticate.ts";
import { createLoginThrottle } from "../../src/accounts/login-throttle.ts";
import { type AccountManagement, createAccountManagement } from "../../src/accounts/manage-accounts.ts";
import { createPasswordHasher, type PasswordHasher } from "../../src/accounts/password-hasher.ts";
import { createPasswordPolicy } from "../../src/accounts/password-policy.ts";
import { createAccountStore } from "../../src/postgres/accounts.ts";
import { createAttemptCounters } from "../../src/postgres/login-attempts.ts";
import { createPool, endPool, servingTimeouts } from "../../src/postgres/pool.ts";
import { passwordWorkerUrl, testActing, testSecrets } from "../support/accounts.ts";

export interface RealAuthentication {
  /** `addressBlock` stands for an address that the account has never logged in from, if none is given. */
  authenticate(username: string, password: string, addressBlock?: string): Promise<Account>;
  readonly accounts: AccountManagement;
  /** What was reported of upgrades that failed and rows that were forged. */
  readonly reports: readonly string[];
  close(): Promise<void>;
}

export interface RealAuthenticationOptions {
  readonly databaseUrl: string;
  readonly cost: number;
  /** Takes the hasher's place at authentication, for controls. */
  readonly replaceHasher?: (hasher: PasswordHasher) => PasswordHasher;
}

export function createRealAuthentication(options: RealAuthenticationOptions): RealAuthentication {
  const { databaseUrl, cost, replaceHasher = (hasher) => hasher } = options;
  const pool = createPool({ url: databaseUrl, max: 3, timeouts: servingTimeouts, onError: () => undefined });
  const store = createAccountStore(pool);
  const hasher = createPasswordHasher({
    workerUrl: passwordWorkerUrl,
    cost,
    threads: 1,
    isEager: true,
    queueLimit: 64,
  });
  const policy = createPasswordPolicy({ minLengthCodePoints: 15, commonPasswords: new Set() });
  const counters = createAttemptCounters(pool, { attempts: 100_000, windowMs: 900_000 });
  const reports: string[] = [];
  const { authenticate } = createAuthentication({
    store,
    secrets: testSecrets,
    throttle: createLoginThrottle(counters, testSecrets),
    hasher: replaceHasher(hasher),
    onForgedAccount: () => reports.push("forged account"),
    onUpgradeFailed: () => reports.push("upgrade failed"),
  });
  return {
    authenticate: (username, password, addressBlock = "203.0.113.1") =>
      authenticate({ username, password, addressBlock }),
    accounts: createAccountManagement({ store, secrets: testSecrets, hasher, policy, who: testActing }),
    reports,
    async close() {
      await hasher.close();
      await endPool(pool);
    },
  };
}
