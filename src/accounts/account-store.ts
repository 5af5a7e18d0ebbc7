/** What accounts need of a store; `postgres/accounts.ts` is one. */

import type { Acting } from "../audit.ts";
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

/** What is to be done with an account's row, and how it is told. */
export interface AccountChange {
  readonly before: Account;
  readonly after: Account;
  /** What the account may do has shrunk: whatever it holds ends, but the session to keep. */
  readonly endSessions: boolean;
  readonly keepSessionId?: string;
  /** For the audit, and the reason that its sessions ended for: `account_disabled`. */
  readonly event: string;
  readonly who: Acting;
}

/** What administration needs beyond that. */
export interface AccountAdministrationStore extends AccountStore {
  findById(accountId: string): Promise<Account | undefined>;
  /** False where the username is taken. */
  insert(account: Account, who: Acting): Promise<boolean>;
  list(): Promise<readonly AccountListing[]>;
  /** False where the row is not of the version that was read any more. */
  change(change: AccountChange): Promise<boolean>;
}

export interface AccountListing {
  readonly account: Account;
  readonly createdAtMs: number;
  readonly liveSessions: number;
}
