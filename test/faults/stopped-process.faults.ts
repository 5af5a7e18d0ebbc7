/** SIGSTOP across the end of keys, again and again: what waits for the process is signed with a key of the present. */

import { afterEach, beforeEach, expect, test } from "@jest/globals";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { verifyThrough } from "../fleet/stock-verification.ts";
import { addAccount, eventually, postLogin } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
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
    await new Promise((resolve) => setTimeout(resolve, sleepMs));
    sleeper.process.kill("SIGCONT");
    for (const answer of await Promise.all(asked)) await verify(answer);
    await eventually(async () => verify(await postLogin(sleeper.url)));
  }
  const { rows } = await database.pool.query(
    `select from keyfleet.issued_tokens t join keyfleet.signing_keys k using (kid)
     where t.issued_at >= keyfleet.key_retirement(k) or t.issued_at < k.activates_at
        or t.expires_at + interval '2 seconds' > keyfleet.key_expiry(k)`,
  );
  expect(rows).toEqual([]);
});
