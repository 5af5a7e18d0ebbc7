/** Signers that die again and again: what becomes of the JWKS, which holds a key of each until its last token has expired. */

import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { addAccount, eventually, login } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, startInstance, type TestInstance, untilItSigns } from "../support/instance.ts";
import { countServedKeys, watchServedKeys } from "./served-keys.ts";

const starts = 200;
/** Long enough for places to fall free again and again: a killed signer keeps its own for a minute. */
const leastMs = 150_000;
/** Consumers' limits begin at 100 keys. */
const budget = 90;
/** As many signers as there may be, whose keys outlive their retirement by 25 minutes; no period ends meanwhile. */
const settings = {
  ISSUER: "https://id.example",
  MAX_SIGNERS: "30",
  KEY_ROTATION_SCHEDULE: `0 ${(new Date().getUTCHours() + 12) % 24} * * *`,
  ACCESS_TOKEN_TTL: "15m",
  VERIFY_GRACE: "10m",
  LOGIN_ATTEMPTS: "10000",
};

let database: TestDatabase;
let steady: TestInstance;
let newcomer: TestInstance | undefined;

const start = () => startInstance({ databaseUrl: database.url, settings });

beforeEach(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  steady = await start();
  await untilItSigns(steady);
});
afterEach(async () => {
  await Promise.all([steady, newcomer].map((instance) => instance?.stop("SIGKILL")));
  await database.drop();
});

/** Of the instances that came and went: how many published keys, and how many keys have signed. */
async function traces(): Promise<{ readonly publishers: number; readonly signed: number }> {
  const { rows } = await database.pool.query<{ publishers: number; signed: number }>(
    `select count(distinct k.instance_id)::int as publishers, count(distinct t.kid)::int as signed
     from keyfleet.signing_keys k left join keyfleet.issued_tokens t using (kid) where k.instance_id <> $1`,
    [steady.instanceId],
  );
  return rows[0] ?? { publishers: 0, signed: 0 };
}

/** Lives until it has signed a token; where there was no place for it, until it could have others sign. */
async function crash(): Promise<void> {
  const instance = await start();
  const { rowCount: keys } = await database.pool.query(
    "select from keyfleet.signing_keys where instance_id = $1",
    [instance.instanceId],
  );
  if (keys !== 0) {
    await untilItSigns(instance);
    await login(instance.url);
  }
  await instance.stop("SIGKILL");
}

test(`${starts} starts and kills in minutes keep the JWKS within ${budget} keys, and two minutes later only those that tokens need are left`, async () => {
  const before = await countServedKeys(steady.url);
  const watch = watchServedKeys(steady.url);
  const beganMs = Date.now();
  let crashes = 0;
  while (crashes < starts || Date.now() < beganMs + leastMs) {
    await Promise.all([crash(), crash()]);
    crashes += 2;
  }
  const crashedMs = Date.now();
  const { publishers, signed } = await traces();
  // The keys of which tokens are about; those that never signed are withdrawn.
  await eventually(async () => (await countServedKeys(steady.url)) <= before + signed, 120_000);
  const most = await watch.stop();
  const left = await countServedKeys(steady.url);
  process.stderr.write(
    `${crashes} starts and kills in ${Math.round((crashedMs - beganMs) / 1000)} s, ${publishers} of signers: ` +
      `${before} keys before, ${most} at most, ${left} after ${Math.round((Date.now() - crashedMs) / 1000)} s\n`,
  );
  expect(left).toBe(before + signed);
  expect(publishers).toBeGreaterThan(40);
  expect(most).toBeGreaterThan(left);
  expect(most).toBeGreaterThan(budget * 0.75);
  expect(most).toBeLessThanOrEqual(budget);
  await eventually(async () => (await readMetric(steady, "keyfleet_lost_instances_total")) === publishers);
  // And whoever comes now has a place.
  newcomer = await start();
  await untilItSigns(newcomer);
}, 900_000);
