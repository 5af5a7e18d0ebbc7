/** An instance that is stopped for longer than everything, declared dead, and wakes with keys that others have retired. */

import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { decodeProtectedHeader } from "jose";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { addAccount, eventually, postLogin } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { jwksOf } from "./silent-fleet.ts";
import { verifyThrough } from "./stock-verification.ts";

/** Its next key is far from signing, and so is withdrawn with the current one. */
const settings = { ISSUER: "https://id.example", KEY_ROTATION_SCHEDULE: "0 0 1 1 *" };

let database: TestDatabase;
let sleeper: TestInstance;
let other: TestInstance;

beforeEach(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  const start = () => startInstance({ databaseUrl: database.url, settings });
  [sleeper, other] = await Promise.all([start(), start()]);
});
afterEach(async () => {
  sleeper.process.kill("SIGCONT");
  await Promise.all([sleeper, other].map((instance) => instance.stop("SIGKILL")));
  await database.drop();
});

const kidOf = (token: string) => decodeProtectedHeader(token).kid ?? "";

async function retiredKids(): Promise<readonly string[]> {
  const { rows } = await database.pool.query<{ kid: string }>(
    "select kid from keyfleet.signing_keys where instance_id = $1 and retired_early_at is not null",
    [sleeper.instanceId],
  );
  return rows.map(({ kid }) => kid);
}

/** It sleeps for an hour, as the database has it, and the other does what it does every ten seconds. */
async function sleepAndBeRetired(): Promise<readonly string[]> {
  sleeper.process.kill("SIGSTOP");
  await database.pool.query(
    `update keyfleet.instances set
       heartbeat_at = heartbeat_at - case when id = $1 then interval '1 hour' else '0' end,
       connected_since = connected_since - interval '2 hours'`,
    [sleeper.instanceId],
  );
  const lost = await database.pool.query("select id from keyfleet.retire_lost_instances($1) id", [
    other.instanceId,
  ]);
  expect(lost.rows).toEqual([{ id: sleeper.instanceId }]);
  const retired = await retiredKids();
  expect(retired).toHaveLength(2);
  return retired;
}

/** What waits for it is answered before it has learned anything. Returns the kids of the tokens that it hands out. */
async function wakeToLogins(): Promise<readonly string[]> {
  const asked = Array.from({ length: 5 }, () => postLogin(sleeper.url));
  sleeper.process.kill("SIGCONT");
  const answers = await Promise.all(asked);
  const issued = answers.filter(({ status }) => status === 200);
  expect(answers.filter(({ status }) => status === 503)).toHaveLength(answers.length - issued.length);
  const tokens = await Promise.all(issued.map((answer) => answer.json() as Promise<TokenResponse>));
  return tokens.map(({ access_token }) => kidOf(access_token));
}

test("it is refused by the issuing statement, starts afresh, and what it signed before stays good", async () => {
  const own = async () => {
    const { rows } = await database.pool.query<{ kid: string }>(
      "select kid from keyfleet.signing_keys where instance_id = $1 and retired_early_at is null",
      [sleeper.instanceId],
    );
    return rows.map(({ kid }) => kid);
  };
  /** Until its own keys are settled, the other signs for it. */
  async function ownToken(): Promise<string> {
    let token = "";
    await eventually(async () => {
      const answer = await postLogin(sleeper.url);
      if (answer.status !== 200) return false;
      token = ((await answer.json()) as TokenResponse).access_token;
      return (await own()).includes(kidOf(token));
    });
    return token;
  }

  const before = await ownToken();
  const retired = await sleepAndBeRetired();
  expect(retired).toContain(kidOf(before));
  for (const kid of await wakeToLogins()) expect(retired).not.toContain(kid);

  const fresh = await ownToken();
  await eventually(async () => (await jwksOf(other)) === (await jwksOf(sleeper)));
  for (const token of [before, fresh]) await verifyThrough(other, token);
});

test("control: where the statement does not look at the end of a key, it signs with one that was retired", async () => {
  await database.pool.query(
    `create or replace function keyfleet.may_sign(
       k keyfleet.signing_keys, p_issuer keyfleet.issuer, p_now timestamptz
     ) returns boolean language sql immutable as $$
       select k.revoked_at is null and k.activates_at <= p_now
     $$`,
  );
  const retired = await sleepAndBeRetired();
  expect((await wakeToLogins()).some((kid) => retired.includes(kid))).toBe(true);
});
