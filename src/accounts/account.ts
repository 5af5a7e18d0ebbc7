/** An account: who may log in, with what scopes; and how a username is written. */

import type { FleetSecrets } from "../fleet-secret.ts";
import { adminScope } from "../protocol/oauth.ts";
import { isSealed, type Seal, type SealedFields, sealRow } from "../seal.ts";

/** What a seal covers: all of an account that authorises. */
export interface AccountFacts {
  /** UUID: the `sub` of its tokens, never reused, never chosen by a person. */
  readonly id: string;
  /** Normalised: see `normalizeUsername`. */
  readonly username: string;
  /** The encrypted hash: see `password.ts`. */
  readonly password: string;
  /** Scope-tokens, sorted. */
  readonly scopes: readonly string[];
  readonly enabled: boolean;
  readonly mustChangePassword: boolean;
  /** Rises with every change of password, scopes or enabled, and with every ending of all sessions. */
  readonly version: number;
}

/** A row of `accounts`. */
export interface Account extends AccountFacts {
  readonly seal: Seal;
}

const usernameMaxCodePoints = 128;
/** All of Unicode's control, format-breaking and unassigned-by-design characters: C0, C1, line separators. */
const controlCharacters = /[\p{Cc}\u2028\u2029]/u;

/**
 * NFKC and lower case, so that a name has one spelling; undefined where the text can be no username: empty, over
 * 128 characters, ill-formed, or with control characters.
 */
export function normalizeUsername(text: string): string | undefined {
  if (text.length > 4 * usernameMaxCodePoints || !text.isWellFormed() || controlCharacters.test(text))
    return undefined;
  const normalized = text.normalize("NFKC").toLowerCase().normalize("NFKC");
  const length = [...normalized].length;
  if (length === 0 || length > usernameMaxCodePoints || [...text].length > usernameMaxCodePoints)
    return undefined;
  return controlCharacters.test(normalized) || normalized.trim() === "" ? undefined : normalized;
}

function sealedFields(account: AccountFacts): SealedFields {
  const { username, password, scopes, enabled, mustChangePassword, version } = account;
  return { username, password, scopes, enabled, mustChangePassword, version };
}

export function sealAccount(secrets: FleetSecrets, facts: AccountFacts): Account {
  return { ...facts, seal: sealRow(secrets, "accounts", facts.id, sealedFields(facts)) };
}

/** Whether an instance made this row: the database alone can neither make nor change an account. */
export function isAccountSealed(secrets: FleetSecrets, account: Account): boolean {
  return isSealed(secrets, "accounts", account.id, sealedFields(account), account.seal);
}

/**
 * The scope a token gets: all that the account has where none is asked for, `keyfleet:admin` only where it is named;
 * undefined where more is asked for than the account has.
 */
export function grantScopes(
  account: Pick<AccountFacts, "scopes">,
  requested: readonly string[] | undefined,
): readonly string[] | undefined {
  if (requested === undefined || requested.length === 0) {
    return account.scopes.filter((scope) => scope !== adminScope);
  }
  return requested.every((scope) => account.scopes.includes(scope)) ? requested : undefined;
}
