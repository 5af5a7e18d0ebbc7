/** Instances at work while one of the next release starts and brings the schema up to date under them. */

import { setTimeout as pause } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { createRemoteJWKSet, jwtVerify } from "jose";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { addAccount, alice, eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { additions, buildLaterRelease, type LaterRelease } from "./later-release.ts";

const issuer = "https://id.example";
const settings = {
  ISSUER: issuer,
  KEY_ROTATION_SCHEDULE: "*/3 * * * * *",
  ACCESS_TOKEN_TTL: "10s",
  VERIFY_GRACE: "2s",
  LOGIN_ATTEMPTS: "10000",
};
const peopleEach = 2;

let database: TestDatabase;
let instances: TestInstance[];
let release: LaterRelease | undefined;
let failures: string[];
/** Sessions from login to logout, by the instance that they were at. */
let rounds: Map<TestInstance, number>;
let verified: number;
/** Requests that were answered 503, and asked again as clients do: who waits for the migration waits for so long. */
let retried: number;

beforeEach(async () => {
  [failures, rounds, verified, retried] = [[], new Map(), 0, 0];
  instances = [];
  database = await freshDatabase();
  await addAccount(database.url);
  const start = () => startInstance({ databaseUrl: database.url, settings });
  instances = await Promise.all([start(), start()]);
});
afterEach(async () => {
  await Promise.all(instances.map((instance) => instance.stop("SIGKILL")));
  release?.remove();
  await database.drop();
});

async function startLater(sql: string): Promise<void> {
  release = buildLaterRelease(sql);
  const { program, migration } = release;
  const later = await startInstance({ databaseUrl: database.url, settings, program });
  instances.push(later);
  expect(later.output()).toContain(`"applied":["${migration}"]`);
}

/** A session from its login to its logout. `check` is given every token. Throws where anything is refused. */
async function liveThrough({ url }: TestInstance, check: (token: string) => Promise<unknown>): Promise<void> {
  async function post(path: string, members: Record<string, string>): Promise<Response> {
    const ask = () => fetch(url + path, { method: "POST", body: new URLSearchParams(members) });
    let response = await ask();
    for (let tries = 1; response.status === 503 && tries < 5; tries += 1) {
      retried += 1;
      await pause(100);
      response = await ask();
    }
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response;
  }
  const { username, password } = alice;
  const first = (await (await post("/login", { username, password })).json()) as TokenResponse;
  await check(first.access_token);
  const { refresh_token: token } = first;
  const grant = { grant_type: "refresh_token", refresh_token: token };
  const next = (await (await post("/token", grant)).json()) as TokenResponse;
  await check(next.access_token);
  await post("/logout", { refresh_token: next.refresh_token });
}

/** People at every instance before, during and after; every token is verified by what another instance serves. */
async function workThrough(change: () => Promise<void>): Promise<void> {
  let isOver = false;
  const lives: Promise<void>[] = [];
  async function work(instance: TestInstance, jwksOf: TestInstance): Promise<void> {
    const keys = createRemoteJWKSet(new URL(`${jwksOf.url}/.well-known/jwks.json`), { cooldownDuration: 0 });
    const check = async (token: string) => {
      await jwtVerify(token, keys, { issuer });
      verified += 1;
    };
    while (!isOver) {
      await liveThrough(instance, check).catch((error: Error) => failures.push(error.message));
      rounds.set(instance, (rounds.get(instance) ?? 0) + 1);
      await pause(10);
    }
  }
  const populate = (instance: TestInstance, jwksOf: TestInstance) =>
    lives.push(...Array.from({ length: peopleEach }, () => work(instance, jwksOf)));
  async function moreRounds(count: number): Promise<void> {
    const before = new Map(rounds);
    await eventually(
      () => instances.every((each) => (rounds.get(each) ?? 0) - (before.get(each) ?? 0) >= count),
      60_000,
    );
  }
  const [one, other] = instances as [TestInstance, TestInstance];
  populate(one, other);
  populate(other, one);
  try {
    await moreRounds(20);
    await change();
    for (const instance of instances.slice(2)) populate(instance, one);
    await moreRounds(40);
  } finally {
    isOver = true;
    await Promise.all(lives);
  }
}

test("nobody who is at an instance of the release before notices, and every token is verified", async () => {
  await workThrough(() => startLater(additions));
  expect(failures).toEqual([]);
  const sessions = [...rounds.values()].reduce((sum, count) => sum + count, 0);
  expect(verified).toBe(2 * sessions);
  for (const instance of instances) expect(instance.output()).not.toMatch(/"level":"(error|fatal)"/);
  const [before, , later] = [...rounds.values()];
  process.stderr.write(
    `${sessions} sessions, ${before} at one of the two before and ${later} at the later; ${verified} tokens verified, ` +
      `${retried} requests asked again\n`,
  );
});

test("control: a migration that takes away what they call is noticed", async () => {
  await workThrough(() =>
    startLater("alter function keyfleet.refresh_session rename to refresh_session_anew;"),
  );
  expect(failures).toContainEqual(expect.stringMatching(/^\/token: 50\d/));
});
