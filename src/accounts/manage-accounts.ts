/** What an administrator does to accounts. Every change of what an account may do raises its version. */

import { randomUUID } from "node:crypto";
import type { Acting } from "../audit.ts";
import { Refusal, unavailable } from "../errors.ts";
import type { FleetSecrets } from "../fleet-secret.ts";
import { scopeTokenPattern } from "../protocol/oauth.ts";
import {
  type Account,
  type AccountFacts,
  isAccountSealed,
  normalizeUsername,
  sealAccount,
} from "./account.ts";
import type { AccountAdministrationStore, AccountListing } from "./account-store.ts";
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
  /** Ends the account's sessions. */
  setPassword(username: string, password: string): Promise<Account>;
  /** Ends the account's sessions, but the one to keep; refuses where the account is not of this version any more. */
  changePassword(
    account: Pick<Account, "username" | "version">,
    password: string,
    keepSessionId?: string,
  ): Promise<Account>;
  disable(username: string): Promise<Account>;
  enable(username: string): Promise<Account>;
  grant(username: string, scope: string): Promise<Account>;
  withdraw(username: string, scope: string): Promise<Account>;
  requirePasswordChange(username: string): Promise<Account>;
  endAllSessions(username: string): Promise<Account>;
}

export interface AccountManagementDependencies {
  readonly store: AccountAdministrationStore;
  readonly secrets: FleetSecrets;
  readonly hasher: Pick<PasswordHasher, "hash">;
  readonly policy: PasswordPolicy;
  readonly who: Acting;
}

const attempts = 5;

interface ChangeKind {
  readonly event: string;
  readonly endSessions: boolean;
  readonly keepSessionId?: string;
  /** What entitles to the change was checked of this version. */
  readonly version?: number;
}

const newAccount = { enabled: true, mustChangePassword: false, version: 1 } as const;

export function createAccountManagement(deps: AccountManagementDependencies): AccountManagement {
  const { store, secrets, hasher, policy, who } = deps;

  async function encryptNewPassword(accountId: string, username: string, password: string): Promise<string> {
    const problem = policy.check(password, username);
    if (problem !== undefined) throw refusedInput(policy.describe(problem));
    const hash = await hasher.hash(bcryptInput("keyfleet", accountId, password));
    return encryptHash(secrets, accountId, { scheme: "keyfleet", hash });
  }

  async function insert(facts: AccountFacts): Promise<Account> {
    const account = sealAccount(secrets, facts);
    if (!(await store.insert(account, who))) throw refusedInput("an account of this name exists");
    return account;
  }

  /** Decides from the row as it is, and again where somebody else was faster. */
  async function change(
    typedUsername: string,
    kind: ChangeKind,
    changeFacts: (account: Account) => Promise<Partial<AccountFacts>> | Partial<AccountFacts>,
  ): Promise<Account> {
    const username = readUsername(typedUsername);
    for (let attempt = 0; attempt < attempts; attempt += 1) {
      const before = (await store.find(username, "")).account;
      if (before === undefined) throw noSuchAccount();
      if (before.version !== (kind.version ?? before.version))
        throw unavailable("The account has just been changed.");
      if (before.username !== username || !isAccountSealed(secrets, before)) {
        throw refusedInput("the account's row was not written by Keyfleet; remove it in the database");
      }
      const facts = { ...before, version: before.version + 1, ...(await changeFacts(before)) };
      const after = sealAccount(secrets, facts);
      if (await store.change({ ...kind, before, after, who })) return after;
    }
    throw unavailable("The account is being changed by others.");
  }

  const newPassword = (password: string) => async (account: Account) => ({
    password: await encryptNewPassword(account.id, account.username, password),
    mustChangePassword: false,
  });

  return {
    async add(typedUsername, password, scopes) {
      const id = randomUUID();
      const username = readUsername(typedUsername);
      const encrypted = await encryptNewPassword(id, username, password);
      return insert({ ...newAccount, id, username, password: encrypted, scopes: readScopes(scopes) });
    },
    async import({ username: typedUsername, scopes, bcryptHash }) {
      if (!bcryptHashPattern.test(bcryptHash))
        throw refusedInput("the hash is not a bcrypt hash of cost 4 to 15");
      const id = randomUUID();
      const hash: PasswordHash = { scheme: "bcrypt", hash: bcryptHash.replace(/^\$2y/, "$2b") };
      const facts = { ...newAccount, id, username: readUsername(typedUsername), scopes: readScopes(scopes) };
      return insert({ ...facts, password: encryptHash(secrets, id, hash) });
    },
    list: () => store.list(),
    setPassword: (username, password) => change(username, ending("password_set"), newPassword(password)),
    changePassword: ({ username, version }, password, keepSessionId) =>
      change(
        username,
        { ...ending("password_set"), version, ...keeping(keepSessionId) },
        newPassword(password),
      ),
    disable: (username) => change(username, ending("account_disabled"), () => ({ enabled: false })),
    enable: (username) => change(username, keepingAll("account_enabled"), () => ({ enabled: true })),
    grant: (username, scope) =>
      change(username, keepingAll("scope_granted"), ({ scopes }) => ({
        scopes: readScopes([...scopes, scope]),
      })),
    withdraw: (username, scope) =>
      change(username, ending("scope_withdrawn"), ({ scopes }) => ({
        scopes: scopes.filter((held) => held !== scope),
      })),
    requirePasswordChange: (username) =>
      change(username, keepingAll("password_change_required"), () => ({ mustChangePassword: true })),
    endAllSessions: (username) => change(username, ending("all_sessions_ended"), () => ({})),
  };
}

const ending = (event: string) => ({ event, endSessions: true });
const keepingAll = (event: string) => ({ event, endSessions: false });
const keeping = (sessionId: string | undefined) =>
  sessionId === undefined ? {} : { keepSessionId: sessionId };

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
