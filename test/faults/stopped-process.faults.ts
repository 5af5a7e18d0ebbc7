/** SIGSTOP across the end of keys, again and again: what waits for the process is signed with a key of the present. */

import { setTimeout as pause } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { verifyThrough } from "../fleet/stock-verification.ts";
import { replaceInFunction } from "../postgres/fleet-rows.ts";
import { addAccount, eventually, postLogin } from "../support/accounts.ts";
import { freshDatabase, inTransaction, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";

/** Two periods end while it sleeps, and so both keys that it had. */
const periodMs = 2000;
const sleepMs = 2.5 * periodMs;
const settings = {
  ISSUER: "https://id.example",
  KEY_ROTATION_SCHEDULE: "*/2 * * * * *",
  ACCESS_TOKEN_TTL: "5s",
  VERIFY_GRACE: "2s",
};

let database: TestDatabase;
let instances: TestInstance[];

beforeEach(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  const start = () => startInstance({ databaseUrl: database.url, settings });
  instances = await Promise.all([start(), start()]);
});
afterEach(async () => {
  for (const instance of instances) instance.process.kill("SIGCONT");
  await Promise.all(instances.map((instance) => instance.stop("SIGKILL")));
  await database.drop();
});

/** Tokens that outlive their keys, or were issued under one that had ended or not begun. */
async function misissued(): Promise<readonly unknown[]> {
  const { rows } = await database.pool.query(
    `select t.jti from keyfleet.issued_tokens t join keyfleet.signing_keys k using (kid)
     where t.issued_at >= keyfleet.key_retirement(k) or t.issued_at < k.activates_at
        or t.expires_at + interval '2 seconds' > keyfleet.key_expiry(k)`,
  );
  return rows;
}

test("no token outlives its key or is of one that had ended, and the woken instance goes on by itself", async () => {
  const [sleeper, other] = instances as [TestInstance, TestInstance];

  /** False where it issued none. */
  async function verify(answer: Response): Promise<boolean> {
    if (answer.status === 503) return false;
    const { access_token } = (await answer.json()) as TokenResponse;
    await verifyThrough(other, access_token);
    return true;
  }

  for (let round = 0; round < 5; round += 1) {
    sleeper.process.kill("SIGSTOP");
    const asked = Array.from({ length: 5 }, () => postLogin(sleeper.url));
    await pause(sleepMs);
    sleeper.process.kill("SIGCONT");
    for (const answer of await Promise.all(asked)) await verify(answer);
    await eventually(async () => verify(await postLogin(sleeper.url)));
  }
  expect(await misissued()).toEqual([]);
});

/** A login whose statement waits in the database, and the process for it, until the key has ended that it offered. */
async function logInAcrossTheEnd(instance: TestInstance): Promise<void> {
  const untilEndMs = () => periodMs - (Date.now() % periodMs);
  // Nothing waits longer than a second.
  await eventually(() => untilEndMs() < 500 && untilEndMs() > 300, 2 * periodMs, 10);
  let answer: Promise<unknown> | undefined;
  await inTransaction(database.pool, async (locking) => {
    await locking.query("select from keyfleet.accounts for update");
    answer = postLogin(instance.url);
    await eventually(async () => {
      const { rowCount } = await database.pool.query(
        "select from pg_stat_activity where wait_event_type = 'Lock' and query like '%start_session(%'",
      );
      return rowCount === 1;
    });
    instance.process.kill("SIGSTOP");
    await pause(untilEndMs() + 50);
  });
  instance.process.kill("SIGCONT");
  await answer;
}

/** How many logins there were, and how many chose a key that had ended. */
async function choices(): Promise<{ readonly made: number; readonly late: number }> {
  const { rows } = await database.pool.query<{ made: number; late: number }>(
    `select count(*)::int as made, count(*) filter (where a.at > keyfleet.key_retirement(k))::int as late
     from keyfleet.audit_events a join keyfleet.signing_keys k using (kid) where a.event = 'login'`,
  );
  return rows[0] ?? { made: 0, late: 0 };
}

test("a statement that waits across the end of a key, and the process for it, chooses one of the present", async () => {
  const [sleeper] = instances as [TestInstance];
  while ((await choices()).made < 3) await logInAcrossTheEnd(sleeper);
  expect((await choices()).late).toBe(0);

  // Control: did it not look again at what it was offered, it would choose the key that had ended.
  const ends = /and keyfleet\.key_retirement\(k\) > p_now\s+and keyfleet\.key_expiry\(k\) >= [^;$]+/;
  await replaceInFunction(database.pool, "may_sign", ends, "");
  while ((await choices()).made < 4) await logInAcrossTheEnd(sleeper);
  expect((await choices()).late).toBeGreaterThan(0);
});
