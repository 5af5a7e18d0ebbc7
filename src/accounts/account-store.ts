/** What accounts need of a store; `postgres/accounts.ts` is one. */

import type { Account } from "./account.ts";

export interface AccountLookup {
  readonly account: Account | undefined;
  /** Whether the account logged in from this address block in the last 30 days. */
  readonly knownAddress: boolean;
}

export interface AccountStore {
  /** By normalised username. */
  find(username: string, addressBlock: string): Promise<AccountLookup>;
  /** Replaces the stored hash, and the seal that covers it, where the row is still the one that was read. */
  replacePassword(before: Account, after: Account): Promise<void>;
}

/** What commands need beyond that. */
export interface AccountAdministrationStore {
  /** False where the username is taken. */
  insert(account: Account): Promise<boolean>;
  list(): Promise<readonly AccountListing[]>;
  /**
   * Locks the row, lets `change` decide, writes, and with `endSessions` ends the account's sessions in a statement
   * of its own: only so does it see a login that committed while the row was waited for. Undefined: no such account.
   */
  change(
    username: string,
    change: (account: Account) => Account,
    endSessions: boolean,
  ): Promise<Account | undefined>;
}

export interface AccountListing {
  readonly account: Account;
  readonly createdAtMs: number;
  readonly liveSessions: number;
}
