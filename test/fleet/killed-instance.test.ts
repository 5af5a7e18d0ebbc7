import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";

/** Between the database's clock and this process's. */
const toleranceMs = 50;

let database: TestDatabase;
let killed: TestInstance;
let others: TestInstance[];

beforeAll(async () => {
  database = await freshDatabase();
  const settings = {
    KEY_ROTATION_SCHEDULE: "*/2 * * * * *",
    ACCESS_TOKEN_TTL: "1s",
    VERIFY_GRACE: "1s",
  };
  const start = () => startInstance({ databaseUrl: database.url, settings });
  [killed, ...others] = await Promise.all([start(), start(), start()]);
});
afterAll(async () => {
  await Promise.all(others.map((instance) => instance.stop()));
  await database.drop();
});

const nowMs = () => performance.timeOrigin + performance.now();

/** When a key was last seen at the latest, and first missed at the earliest. */
interface Sighting {
  lastSeenMs: number;
  firstMissedMs: number;
}

async function servedKids({ url }: TestInstance): Promise<string[]> {
  const response = await fetch(`${url}/.well-known/jwks.json`);
  return ((await response.json()) as { keys: { kid: string }[] }).keys.map(({ kid }) => kid);
}

/** Asks until none of the keys is served any more. */
async function watchUntilGone(
  instance: TestInstance,
  kids: readonly string[],
): Promise<Map<string, Sighting>> {
  const sightings = new Map(kids.map((kid) => [kid, { lastSeenMs: 0, firstMissedMs: Infinity }]));
  const isThere = () => [...sightings.values()].some(({ firstMissedMs }) => firstMissedMs === Infinity);
  while (isThere()) {
    const askedAtMs = nowMs();
    const served = await servedKids(instance);
    for (const [kid, sighting] of sightings) {
      if (served.includes(kid)) sighting.lastSeenMs = askedAtMs;
      else sighting.firstMissedMs = Math.min(sighting.firstMissedMs, nowMs());
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return sightings;
}

async function unexpiredKeys(): Promise<{ kid: string; expires_ms: number; active: boolean }[]> {
  const { rows } = await database.pool.query(
    `select kid, extract(epoch from expires_at)::float8 * 1000 as expires_ms,
            activates_at <= clock_timestamp() as active
     from keyfleet.signing_keys
     where instance_id = $1 and expires_at > clock_timestamp() + interval '1 second'`,
    [killed.instanceId],
  );
  return rows;
}

test("the keys of a killed instance leave every other's JWKS at their expires_at, and not before", async () => {
  // One that may have signed, and one that never will.
  await eventually(async () => new Set((await unexpiredKeys()).map(({ active }) => active)).size === 2);
  await killed.stop("SIGKILL");
  const keys = await unexpiredKeys();
  const kids = keys.map(({ kid }) => kid);
  for (const other of others) {
    await eventually(async () => {
      const served = await servedKids(other);
      return kids.every((kid) => served.includes(kid));
    }, 1000);
  }
  const watched = await Promise.all(others.map((other) => watchUntilGone(other, kids)));
  for (const sightings of watched) {
    for (const { kid, expires_ms: expiresMs } of keys) {
      const { lastSeenMs = 0, firstMissedMs = 0 } = sightings.get(kid) ?? {};
      expect(firstMissedMs).toBeGreaterThanOrEqual(expiresMs - toleranceMs);
      expect(lastSeenMs).toBeLessThanOrEqual(expiresMs + toleranceMs);
    }
  }
}, 30_000);
