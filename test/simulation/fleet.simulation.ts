/** `npm run simulate`: a fleet of 1,000 over days, in virtual time. Writes docs/fleet.svg and the tables of docs/fleet.md. */

import { readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "@jest/globals";
import { type Account, sealAccount } from "../../src/accounts/account.ts";
import { dayMs, hourMs, minuteMs, secondMs } from "../../src/clock.ts";
import { createPeriodSchedule } from "../../src/keys/period-schedule.ts";
import { createAccountStore } from "../../src/postgres/accounts.ts";
import { createPool, endPool, type Queryable } from "../../src/postgres/pool.ts";
import { testActing, testSecrets } from "../support/accounts.ts";
import { freshDatabase } from "../support/database.ts";
import { createVirtualTime, installVirtualTime } from "../support/virtual-time.ts";
import { drawPlot } from "./fleet-plot.ts";
import { loadTable, sizeTable, timeTable } from "./fleet-tables.ts";
import { createLargeFleet, type LargeFleet } from "./large-fleet.ts";
import * as scenario from "./scenarios.ts";
import { measureStatements } from "./statement-cost.ts";

const account: Account = sealAccount(testSecrets, {
  id: "8e4b7a54-6c1c-4b53-9d1e-7f6c2f1d0a11",
  username: "alice",
  password: "",
  scopes: ["orders:read"],
  enabled: true,
  mustChangePassword: false,
  version: 1,
});
/** The defaults. */
const settings = {
  schedule: createPeriodSchedule("0 */6 * * *"),
  propagationDelayMs: 12 * minuteMs,
  syncIntervalMs: 500,
  accessTokenTtlMs: 15 * minuteMs,
  verifyGraceMs: 10 * minuteMs,
  maxSigners: 16,
};
/** `SHUTDOWN_LINGER` as in production. */
const lingerMs = settings.propagationDelayMs + minuteMs;
const size = 1000;
/** For a thousand instances on twenty connections. */
const patience = { connectMs: minuteMs, statementMs: minuteMs };

/** Numerical Recipes' generator: every run is the same but for keys and ids. */
function createRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

async function withFleet<Result>(
  work: (fleet: LargeFleet, random: () => number, database: Queryable) => Promise<Result>,
): Promise<Result> {
  const database = await freshDatabase();
  await installVirtualTime(database.pool as Queryable);
  const pool = createPool({
    url: database.url,
    max: 20,
    timeouts: patience,
    onError: () => undefined,
  });
  await createAccountStore(pool).insert(account, testActing);
  const time = createVirtualTime();
  time.set(Date.parse("2026-03-01T00:20:00Z"));
  const random = createRandom(1);
  const demand = (holds: boolean, claim: string) => expect(holds ? "" : claim).toBe("");
  try {
    return await work(
      createLargeFleet({ settings, pool, time, account, random, demand }),
      random,
      time.wrap(pool),
    );
  } finally {
    await endPool(pool);
    await database.drop();
  }
}

function simulateDays() {
  return withFleet(async (fleet, random, database) => {
    const joining = await scenario.watch(fleet, "1,000 join in an hour", 2 * hourMs, () =>
      scenario.joinOver(fleet, size, hourMs, random),
    );
    const steady = await scenario.watch(fleet, "two quiet days", 2 * dayMs, () => undefined);
    const pollingMs = await scenario.convergeByPolling(fleet, random);
    const dying = await scenario.watch(fleet, "1 in 10 killed a day", 2 * dayMs, (kill) => {
      const plan = { durationMs: 2 * dayMs - 2 * hourMs, replacedAfterMs: 5 * secondMs, random };
      scenario.killAtRandom(fleet, kill, { ...plan, count: size / 5, among: () => true });
      scenario.killAtRandom(fleet, kill, { ...plan, count: 15, among: fleet.isSigner });
    });
    const deploy = await scenario.watch(fleet, "all replaced in 40 min", 2 * hourMs, () =>
      scenario.replaceAll(fleet, 40, lingerMs),
    );
    const toldAtOnceMs = await scenario.tellAtOnce(fleet, () =>
      database.query("update keyfleet.fleet_state set directory_version = directory_version + 1"),
    );
    const costsMs = await measureStatements(database, fleet.nowMs());
    return { outcomes: [joining, steady, dying, deploy], pollingMs, toldAtOnceMs, costsMs };
  });
}

function simulateCrashes() {
  return withFleet(async (fleet, random) => {
    await scenario.watch(fleet, "joining", 2 * hourMs, () => scenario.joinOver(fleet, 20, minuteMs, random));
    return scenario.watch(fleet, "200 kills in 5 min, of 20", hourMs, (kill) =>
      scenario.killAtRandom(fleet, kill, {
        ...{ count: 200, durationMs: 5 * minuteMs, replacedAfterMs: secondMs, random },
        among: () => true,
      }),
    );
  });
}

/** Between the marks that name them. */
function writeTables(tables: Readonly<Record<string, string>>): void {
  const path = new URL("../../docs/fleet.md", import.meta.url);
  let text = readFileSync(path, "utf8");
  for (const [name, table] of Object.entries(tables)) {
    const marked = new RegExp(`(<!-- ${name} -->\\n)[^]*?(<!-- end -->)`);
    expect(text).toMatch(marked);
    text = text.replace(marked, `$1\n${table}\n\n$2`);
  }
  writeFileSync(path, text);
}

test(
  "a large fleet over days",
  async () => {
    const crash = await simulateCrashes();
    const { outcomes, costsMs, ...times } = await simulateDays();
    for (const { samples } of outcomes.slice(1))
      expect(Math.min(...samples.map(({ matureSigners }) => matureSigners))).toBeGreaterThan(0);
    const tables = {
      size: sizeTable([...outcomes, crash]),
      load: loadTable(outcomes, costsMs),
      times: timeTable({ ...times, outcomes, crash }),
    };
    writeTables(tables);
    writeFileSync(new URL("../../docs/fleet.svg", import.meta.url), drawPlot([...outcomes, crash]));
    console.log(Object.values(tables).join("\n\n"));
  },
  30 * minuteMs,
);
