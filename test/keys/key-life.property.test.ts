/** Invariants I1, I2 and I3 over random fleets: the real code on a real database, in which only time is made. */

import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { type Account, sealAccount } from "../../src/accounts/account.ts";
import { createGarbageCollector } from "../../src/keys/secure-heap.ts";
import { createAccountStore } from "../../src/postgres/accounts.ts";
import {
  commandTimeouts,
  createPool,
  endPool,
  type Pool,
  type Queryable,
  timestamp,
} from "../../src/postgres/pool.ts";
import { testSecrets } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { amount, longFormSeed } from "../support/long-form.ts";
import { createVirtualTime, installVirtualTime } from "../support/virtual-time.ts";
import { perform } from "./fleet-actions.ts";
import { examples } from "./fleet-examples.ts";
import { type Action, actions, type PlannedSettings, plannedSettings, readSettings } from "./fleet-plan.ts";
import { type Situation, situations } from "./fleet-record.ts";
import {
  checkDirectories,
  checkNewToken,
  checkRefusal,
  checkRings,
  checkServedKeys,
  checkTokensAgainstKeys,
} from "./key-invariants.ts";
import { createSimulatedFleet } from "./simulated-fleet.ts";

const account: Account = sealAccount(testSecrets, {
  id: "8e4b7a54-6c1c-4b53-9d1e-7f6c2f1d0a11",
  username: "alice",
  password: "",
  scopes: ["orders:read"],
  enabled: true,
  mustChangePassword: false,
  version: 1,
});
const time = createVirtualTime();
const collectGarbage = createGarbageCollector();
let database: TestDatabase;
let pool: Pool;

beforeAll(async () => {
  database = await freshDatabase();
  await installVirtualTime(database.pool as Queryable);
  pool = createPool({ url: database.url, max: 8, timeouts: commandTimeouts, onError: () => undefined });
  await createAccountStore(pool).insert(account, { actor: "command", instanceId: null, address: null });
});

afterAll(async () => {
  await endPool(pool);
  await database.drop();
});

/** A linear congruential generator (Numerical Recipes): the same numbers whenever a run is repeated. */
function createRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

async function emptyTables(): Promise<void> {
  await pool.query(
    `set session_replication_role = replica;
     delete from keyfleet.issued_tokens; delete from keyfleet.sessions; delete from keyfleet.account_addresses;
     delete from keyfleet.signing_keys; delete from keyfleet.instances;
     reset session_replication_role`,
  );
  collectGarbage();
}

async function liveThrough(planned: PlannedSettings, plan: readonly Action[]): Promise<void> {
  await emptyTables();
  time.set(planned.startsAt.getTime());
  await pool.query("update keyfleet.fleet_state set complete_since = $1", [
    timestamp(planned.startsAt.getTime()),
  ]);
  const direct = time.wrap(pool as Queryable);
  const fleet = createSimulatedFleet({
    settings: readSettings(planned),
    latencyMs: planned.latencyMs,
    pool,
    time,
    secrets: testSecrets,
    account,
    random: createRandom(planned.seed),
    saw: (situation) => seen.set(situation, (seen.get(situation) ?? 0) + 1),
    onMoment: () => checkServedKeys(fleet),
    onIssued: (instance, before) => checkNewToken(fleet, instance, before),
    onNotIssued: (instance, before) => checkRefusal(fleet, instance, before),
  });
  try {
    for (const action of plan) {
      await perform(fleet, action);
      await fleet.record.readRows(direct);
      checkServedKeys(fleet);
      checkTokensAgainstKeys(fleet);
      checkDirectories(fleet);
      checkRings(fleet);
    }
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : error}\n${fleet.story()}`, { cause: error });
  }
}

const seen = new Map<Situation, number>();
const runs = amount(30, 200);
/** The quick form goes through the same fleets every time; the long one looks for new ones. */
const seed = amount(20_261_126, longFormSeed());
/** On a slow machine fewer runs have to do; and so long may shrinking a counterexample take. */
const longestMs = amount(60_000, 240_000);

// A failure names its seed and path: give them to fc.assert to see it again.
test(
  "keys are known before they sign, outlive their tokens, and are served as long as these",
  async () => {
    const property = fc.asyncProperty(plannedSettings, actions, liveThrough);
    await fc.assert(property, { examples, numRuns: runs, seed, interruptAfterTimeLimit: longestMs });
    expect(situations.filter((situation) => !seen.has(situation))).toEqual([]);
  },
  2 * longestMs,
);
