/** Instances that die again and again: what becomes of the JWKS, which holds a key of each until that expires. */

import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { addAccount, eventually, postLogin } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, startInstance, type TestInstance } from "../support/instance.ts";

const starts = 200;
/** Consumers' limits begin at 100 keys. */
const budget = 90;
/** All as it is by default, but for the delay: 16 signers, whose keys outlive their retirement by 25 minutes. */
const settings = {
  ISSUER: "https://id.example",
  MAX_SIGNERS: "16",
  KEY_PROPAGATION_DELAY: "20s",
  ACCESS_TOKEN_TTL: "15m",
  VERIFY_GRACE: "10m",
  LOGIN_ATTEMPTS: "10000",
};
const mature = 'keyfleet_access_tokens_issued_total{key="mature"}';

let database: TestDatabase;
let steady: TestInstance;

beforeEach(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  steady = await startInstance({ databaseUrl: database.url, settings });
  await eventually(async () => {
    await postLogin(steady.url);
    return (await readMetric(steady, mature)) > 0;
  }, 40_000);
}, 60_000);
afterEach(async () => {
  await steady.stop("SIGKILL");
  await database.drop();
});

async function servedKeys(): Promise<number> {
  const response = await fetch(`${steady.url}/.well-known/jwks.json`);
  return ((await response.json()) as { keys: unknown[] }).keys.length;
}

test(`${starts} starts and kills in minutes leave the JWKS under ${budget} keys, and in two minutes as small as it was`, async () => {
  const before = await servedKeys();
  let most = 0;
  const beganMs = Date.now();
  let isOver = false;
  const watching = (async () => {
    while (!isOver) {
      most = Math.max(most, await servedKeys());
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  })();
  let answered = 0;
  async function crash(): Promise<void> {
    const instance = await startInstance({ databaseUrl: database.url, settings });
    if ((await postLogin(instance.url)).status === 200) answered += 1;
    await instance.stop("SIGKILL");
  }
  for (let count = 0; count < starts; count += 2) await Promise.all([crash(), crash()]);
  const crashedMs = Date.now();
  await eventually(async () => (await servedKeys()) <= before, 120_000);
  isOver = true;
  await watching;
  process.stderr.write(
    `${starts} starts and kills in ${Math.round((crashedMs - beganMs) / 1000)} s: ${before} keys before, ${most} at most, ` +
      `back to ${await servedKeys()} after ${Math.round((Date.now() - crashedMs) / 1000)} s; ` +
      `${answered} of them answered a login\n`,
  );
  expect(most).toBeLessThan(budget);
}, 1_200_000);
