/** Accounts and logins for tests. */

import { fileURLToPath } from "node:url";
import bcrypt from "bcrypt";
import { type AccountManagement, createAccountManagement } from "../../src/accounts/manage-accounts.ts";
import { createPasswordPolicy } from "../../src/accounts/password-policy.ts";
import type { Acting } from "../../src/audit.ts";
import { createFleetSecrets, type FleetSecrets } from "../../src/fleet-secret.ts";
import { createAccountStore } from "../../src/postgres/accounts.ts";
import { commandTimeouts, createPool, endPool } from "../../src/postgres/pool.ts";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { testSecret } from "./instance.ts";

export const passwordWorkerUrl = new URL("../../dist/accounts/password-worker.js", import.meta.url);
export const dataDirectory = fileURLToPath(new URL("../../data/", import.meta.url));
export const testSecrets: FleetSecrets = createFleetSecrets(Buffer.from(testSecret, "base64url"));

export const testActing: Acting = { actor: "command", instanceId: null, address: null };

export const alice = {
  username: "alice",
  password: "correct horse battery staple",
  scopes: ["orders:read", "orders:write", "keyfleet:admin"],
} as const;

/** At bcrypt's least cost, in this thread: starting one takes far longer than the hash. */
const hasher = { hash: async (input: string) => bcrypt.hashSync(input, 4) };

/** Runs `work` with account management on a database of its own connections, at bcrypt's least cost. */
export async function manageAccounts<Result>(
  databaseUrl: string,
  work: (accounts: AccountManagement) => Promise<Result>,
  secrets: FleetSecrets = testSecrets,
): Promise<Result> {
  const pool = createPool({ url: databaseUrl, max: 2, timeouts: commandTimeouts, onError: () => undefined });
  const policy = createPasswordPolicy({ minLengthCodePoints: 15, commonPasswords: new Set() });
  try {
    return await work(
      createAccountManagement({ store: createAccountStore(pool), secrets, hasher, policy, who: testActing }),
    );
  } finally {
    await endPool(pool);
  }
}

/** Makes `alice`, or somebody else. */
export async function addAccount(
  databaseUrl: string,
  account: {
    readonly username: string;
    readonly password: string;
    readonly scopes: readonly string[];
  } = alice,
): Promise<void> {
  await manageAccounts(databaseUrl, (accounts) =>
    accounts.add(account.username, account.password, account.scopes),
  );
}

export function postLogin(url: string, members: object = {}): Promise<Response> {
  const { username, password } = alice;
  return fetch(`${url}/login`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ username, password, ...members }),
  });
}

/** Logs in and throws where that is refused. */
export async function login(url: string, members: object = {}): Promise<TokenResponse> {
  const response = await postLogin(url, members);
  if (response.status !== 200) throw new Error(`login: ${response.status} ${await response.text()}`);
  return (await response.json()) as TokenResponse;
}

/** Waits for a condition, asking again and again; throws when it has not come true in time. */
export async function eventually(
  condition: () => boolean | Promise<boolean>,
  withinMs = 10_000,
  everyMs = 20,
): Promise<void> {
  const deadlineMs = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new Error("it did not come true in time");
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}
