/** What the rounds are made of: over stores of this process, and over HTTP. */

import { randomUUID } from "node:crypto";
import { type Account, sealAccount } from "../../src/accounts/account.ts";
import { Refusal } from "../../src/errors.ts";
import { createAccountStore } from "../../src/postgres/accounts.ts";
import { alice, login, postLogin, testActing, testSecrets } from "../support/accounts.ts";
import type { TestDatabase } from "../support/database.ts";
import type { Ending, Round } from "./in-flight-rounds.ts";
import type { InProcessInstance } from "./in-process-instance.ts";

export type Three<Value> = readonly [Value, Value, Value];

const newPassword = "another horse battery staple";

function rotated<Value>([first, second, third]: Three<Value>, by: number): Three<Value> {
  const turns: readonly Three<Value>[] = [
    [second, third, first],
    [third, first, second],
  ];
  return turns[by % 3] ?? [first, second, third];
}

/** Whether the racer got its token; throws what is no refusal. */
export async function wasIssued(attempt: Promise<unknown>): Promise<boolean> {
  try {
    await attempt;
    return true;
  } catch (error) {
    if (error instanceof Refusal) return false;
    throw error;
  }
}

/** Of no known password. */
export async function addBareAccount(database: TestDatabase): Promise<Account> {
  const id = randomUUID();
  const facts = { id, username: id, password: "", scopes: ["orders:read"], enabled: true };
  const account = sealAccount(testSecrets, { ...facts, mustChangePassword: false, version: 1 });
  await createAccountStore(database.pool).insert(account, testActing);
  return account;
}

/** An account with one session: logins and refreshes at two instances, and an ending at the third. */
export async function makeRound(
  database: TestDatabase,
  fleet: Three<InProcessInstance>,
  ending: Ending,
  index: number,
): Promise<Round> {
  const [first, second, third] = rotated(fleet, index);
  const account = await addBareAccount(database);
  const { refresh_token: token, session_id: sessionId } = await first.login(account);
  const logins = [second, third].map((at) => () => wasIssued(at.login(account)));
  const refreshes = [second, third].map((at) => () => wasIssued(at.refresh(token)));
  const ends: Record<Ending, () => Promise<unknown>> = {
    disable: () => first.accounts.disable(account.username),
    password: () => first.accounts.setPassword(account.username, newPassword),
    "end-all": () => first.endSession.allOfAccount(account.id, testActing),
    logout: () =>
      index % 2 === 0
        ? first.endSession.byId(sessionId, testActing)
        : first.endSession.byRefreshToken(token, testActing),
  };
  const racers = ending === "logout" ? [...refreshes, ...refreshes] : [...logins, ...refreshes];
  return { accountId: account.id, ending, racers, end: ends[ending] };
}

/** True where it was answered with a token; false where it was refused as the contract says. */
async function gotToken(answer: Promise<Response>): Promise<boolean> {
  const { status } = await answer;
  if (![200, 400, 401, 503].includes(status)) throw new Error(`answered with ${status}`);
  return status === 200;
}

async function post(url: string, bearer: string | undefined, body: object): Promise<Response> {
  return fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...(bearer && { authorization: `Bearer ${bearer}` }) },
    body: JSON.stringify(body),
  });
}

async function expectNoContent(answer: Promise<Response>): Promise<void> {
  const { status } = await answer;
  if (status !== 204) throw new Error(`the ending was answered with ${status}`);
}

/** The same over HTTP, passwords included; `command` is where an administrator's commands run. */
export async function makeHttpRound(
  urls: Three<string>,
  command: InProcessInstance,
  ending: Ending,
  index: number,
): Promise<Round> {
  const [first, second, third] = rotated(urls, index);
  const username = randomUUID();
  const { id: accountId } = await command.accounts.add(username, alice.password, alice.scopes);
  const { access_token: bearer, refresh_token: token } = await login(first, { username });
  const form = new URLSearchParams({ grant_type: "refresh_token", refresh_token: token });
  const refreshes = [second, third].map(
    (url) => () => gotToken(fetch(`${url}/token`, { method: "POST", body: form })),
  );
  const logins = [second, third].map((url) => () => gotToken(postLogin(url, { username })));
  const passwords = { username, current_password: alice.password, new_password: newPassword };
  const ends: Record<Ending, () => Promise<unknown>> = {
    disable: () => command.accounts.disable(username),
    password: () => expectNoContent(post(`${first}/password`, undefined, passwords)),
    "end-all": () => expectNoContent(post(`${first}/logout`, bearer, { all: true })),
    logout: () => expectNoContent(post(`${first}/logout`, undefined, { refresh_token: token })),
  };
  const racers = ending === "logout" ? [...refreshes, ...refreshes] : [...logins, ...refreshes];
  return { accountId, ending, racers, end: ends[ending] };
}
