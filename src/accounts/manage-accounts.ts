/** What an administrator does to accounts. Every change of what an account may do raises its version. */

import { randomUUID } from "node:crypto";
import { Refusal } from "../errors.ts";
import type { FleetSecrets } from "../fleet-secret.ts";
import { scopeTokenPattern } from "../protocol/oauth.ts";
import {
  type Account,
  type AccountFacts,
  isAccountSealed,
  normalizeUsername,
  sealAccount,
} from "./account.ts";
import type { AccountAdministrationStore, AccountListing, AccountStore } from "./account-store.ts";
import { bcryptHashPattern, bcryptInput, encryptHash, type PasswordHash } from "./password.ts";
import type { PasswordHasher } from "./password-hasher.ts";
import type { PasswordPolicy } from "./password-policy.ts";

export interface ImportedAccount {
  readonly username: string;
  readonly scopes: readonly string[];
  /** A bcrypt hash over the password itself, as other systems make them; replaced at the first login. */
  readonly bcryptHash: string;
}

/** Every method throws `invalid_request` for bad input, `not_found` for a name that is not there. */
export interface AccountManagement {
  add(username: string, password: string, scopes: readonly string[]): Promise<Account>;
  import(imported: ImportedAccount): Promise<Account>;
  list(): Promise<readonly AccountListing[]>;
  setPassword(username: string, password: string): Promise<Account>;
  disable(username: string): Promise<Account>;
  enable(username: string): Promise<Account>;
  grant(username: string, scope: string): Promise<Account>;
  withdraw(username: string, scope: string): Promise<Account>;
  requirePasswordChange(username: string): Promise<Account>;
  endAllSessions(username: string): Promise<Account>;
}

export interface AccountManagementDependencies {
  readonly store: AccountStore & AccountAdministrationStore;
  readonly secrets: FleetSecrets;
  readonly hasher: Pick<PasswordHasher, "hash">;
  readonly policy: PasswordPolicy;
}

const newAccount = { enabled: true, mustChangePassword: false, version: 1 } as const;

export function createAccountManagement(deps: AccountManagementDependencies): AccountManagement {
  const { store, secrets, hasher, policy } = deps;

  async function encryptNewPassword(accountId: string, username: string, password: string): Promise<string> {
    const problem = policy.check(password, username);
    if (problem !== undefined) throw refusedInput(policy.describe(problem));
    const hash = await hasher.hash(bcryptInput("keyfleet", accountId, password));
    return encryptHash(secrets, accountId, { scheme: "keyfleet", hash });
  }

  async function insert(facts: AccountFacts): Promise<Account> {
    const account = sealAccount(secrets, facts);
    if (!(await store.insert(account))) throw refusedInput("an account of this name exists");
    return account;
  }

  /** `endSessions`: what the account may do has shrunk, so whatever it holds ends. */
  async function change(
    typedUsername: string,
    endSessions: boolean,
    changeFacts: (account: Account) => Partial<AccountFacts>,
  ): Promise<Account> {
    const username = readUsername(typedUsername);
    const changed = await store.change(
      username,
      (account) => {
        if (account.username !== username || !isAccountSealed(secrets, account)) {
          throw refusedInput("the account's row was not written by Keyfleet; remove it in the database");
        }
        return sealAccount(secrets, { ...account, version: account.version + 1, ...changeFacts(account) });
      },
      endSessions,
    );
    if (changed === undefined) throw noSuchAccount();
    return changed;
  }

  return {
    async add(typedUsername, password, scopes) {
      const id = randomUUID();
      const username = readUsername(typedUsername);
      const encrypted = await encryptNewPassword(id, username, password);
      return insert({ ...newAccount, id, username, password: encrypted, scopes: readScopes(scopes) });
    },
    async import({ username: typedUsername, scopes, bcryptHash }) {
      if (!bcryptHashPattern.test(bcryptHash)) throw refusedInput("the hash is not a bcrypt hash");
      const id = randomUUID();
      const hash: PasswordHash = { scheme: "bcrypt", hash: bcryptHash.replace(/^\$2y/, "$2b") };
      const facts = { ...newAccount, id, username: readUsername(typedUsername), scopes: readScopes(scopes) };
      return insert({ ...facts, password: encryptHash(secrets, id, hash) });
    },
    list: () => store.list(),
    async setPassword(typedUsername, password) {
      const username = readUsername(typedUsername);
      const { account } = await store.find(username, "");
      if (account === undefined) throw noSuchAccount();
      const encrypted = await encryptNewPassword(account.id, username, password);
      return change(username, true, () => ({ password: encrypted, mustChangePassword: false }));
    },
    disable: (username) => change(username, true, () => ({ enabled: false })),
    enable: (username) => change(username, false, () => ({ enabled: true })),
    grant: (username, scope) =>
      change(username, false, (account) => ({ scopes: readScopes([...account.scopes, scope]) })),
    withdraw: (username, scope) =>
      change(username, true, (account) => ({ scopes: account.scopes.filter((held) => held !== scope) })),
    requirePasswordChange: (username) => change(username, false, () => ({ mustChangePassword: true })),
    endAllSessions: (username) => change(username, true, () => ({})),
  };
}

function noSuchAccount(): Refusal {
  return new Refusal("not_found", { description: "there is no account of this name" });
}

function refusedInput(description: string): Refusal {
  return new Refusal("invalid_request", { description });
}

function readUsername(typed: string): string {
  const username = normalizeUsername(typed);
  if (username === undefined) {
    throw refusedInput("a username has 1 to 128 characters, none of them a control character");
  }
  return username;
}

/** All of an account's scopes have to fit into a token of 1 KiB beside everything else. */
const scopesMaxCharacters = 256;

function readScopes(scopes: readonly string[]): readonly string[] {
  const distinct = [...new Set(scopes)].sort();
  if (!distinct.every((scope) => scopeTokenPattern.test(scope))) {
    throw refusedInput(
      "a scope has 1 to 64 printable ASCII characters, without spaces, quotes and backslashes",
    );
  }
  if (distinct.join(" ").length > scopesMaxCharacters) {
    throw refusedInput(`the scopes of an account have at most ${scopesMaxCharacters} characters together`);
  }
  return distinct;
}
