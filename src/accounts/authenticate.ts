/** A username and a password become an account, or one refusal that says nothing about why. */

import { Refusal } from "../errors.ts";
import type { FleetSecrets } from "../fleet-secret.ts";
import { type Account, isAccountSealed, normalizeUsername, sealAccount } from "./account.ts";
import type { AccountStore } from "./account-store.ts";
import type { LoginThrottle } from "./login-throttle.ts";
import { bcryptInput, decryptHash, encryptHash, type PasswordHash } from "./password.ts";
import type { PasswordHasher } from "./password-hasher.ts";
import { passwordFormProblem } from "./password-policy.ts";

export interface Credentials {
  readonly username: string;
  readonly password: string;
  /** An IPv4 address, or the /64 of an IPv6 one. */
  readonly addressBlock: string;
}

export interface Authentication {
  /** Throws `password_change_required` besides, once the password was right. */
  authenticate(credentials: Credentials): Promise<Account>;
  /** The same for an account that must change its password: it is what it does that with. */
  checkPassword(credentials: Credentials): Promise<Account>;
}

export interface AuthenticationDependencies {
  readonly store: AccountStore;
  readonly secrets: FleetSecrets;
  readonly throttle: LoginThrottle;
  readonly hasher: PasswordHasher;
  /** An account whose row no instance made: it is treated as if it did not exist. */
  onForgedAccount(accountId: string): void;
  /** A better hash could not be stored; the old one serves. */
  onUpgradeFailed(error: unknown): void;
}

/** Stands in for the id of an account that does not exist: the digest is computed all the same. */
const nobody = "00000000-0000-0000-0000-000000000000";

/**
 * Throws `invalid_credentials` alike, and after the same time, for an unknown name, a wrong password and a disabled
 * account; `too_many_attempts`; `invalid_request`.
 */
export function createAuthentication(deps: AuthenticationDependencies): Authentication {
  const { store, secrets, throttle, hasher } = deps;

  async function upgrade(account: Account, password: string, stored: PasswordHash): Promise<void> {
    if (stored.scheme === "keyfleet" && !hasher.isOutdated(stored.hash)) return;
    try {
      const hash = await hasher.hash(bcryptInput("keyfleet", account.id, password));
      const encrypted = encryptHash(secrets, account.id, { scheme: "keyfleet", hash });
      await store.replacePassword(account, sealAccount(secrets, { ...account, password: encrypted }));
    } catch (error) {
      deps.onUpgradeFailed(error);
    }
  }

  async function check(credentials: Credentials): Promise<{ account: Account; stored: PasswordHash }> {
    const { username: typedUsername, password, addressBlock } = credentials;
    const username = normalizeUsername(typedUsername);
    if (username === undefined)
      throw new Refusal("invalid_request", { description: "username is malformed" });
    if (passwordFormProblem(password) !== undefined) {
      throw new Refusal("invalid_request", { description: "password is malformed" });
    }
    const found = await store.find(username, addressBlock);
    const account =
      found.account !== undefined && isGenuine(found.account, username) ? found.account : undefined;
    const stored = account && decryptHash(secrets, account.id, account.password);
    const input = bcryptInput(stored?.scheme ?? "keyfleet", account?.id ?? nobody, password);
    const attempt = { username, addressBlock, knownAddress: found.knownAddress };
    const isRight = await throttle.judge(attempt, async () => {
      const matches = await hasher.verify(input, stored?.hash);
      return matches && account?.enabled === true;
    });
    if (account === undefined || stored === undefined || !isRight) throw new Refusal("invalid_credentials");
    return { account, stored };
  }

  function isGenuine(account: Account, username: string): boolean {
    if (account.username === username && isAccountSealed(secrets, account)) return true;
    deps.onForgedAccount(account.id);
    return false;
  }

  return {
    async authenticate(credentials) {
      const { account, stored } = await check(credentials);
      if (account.mustChangePassword) throw new Refusal("password_change_required");
      await upgrade(account, credentials.password, stored);
      return account;
    },
    checkPassword: async (credentials) => (await check(credentials)).account,
  };
}
