import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from "jose";
import { heldAfterRetirementMs } from "../../src/keys/rotation-plan.ts";
import { addAccount, eventually, login } from "../support/accounts.ts";
import { freshDatabase, inTransaction, type TestDatabase } from "../support/database.ts";
import { readMetric, startInstance, type TestInstance } from "../support/instance.ts";
import { fastClocks, jumpingCalendar, wrongCalendar } from "../support/wrong-calendar.ts";
import { jwksOf } from "./silent-fleet.ts";

const clocks: [string, string[]][] = [
  ["an hour ahead", wrongCalendar("3_600_000")],
  ["an hour behind", wrongCalendar("-3_600_000")],
  ["that jumps to and fro every second", jumpingCalendar],
];

let database: TestDatabase;
let right: TestInstance;
/** At work beside all the others, so that its clocks get far ahead. */
let fast: TestInstance;
const settings = {
  ISSUER: "http://localhost",
  KEY_ROTATION_SCHEDULE: "*/5 * * * * *",
  ACCESS_TOKEN_TTL: "5s",
  VERIFY_GRACE: "10s",
};

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  await noteInsertions();
  right = await startInstance({ databaseUrl: database.url, settings });
  fast = await startInstance({ databaseUrl: database.url, settings, nodeFlags: fastClocks });
});
afterAll(async () => {
  await Promise.all([right?.stop(), fast?.stop()]);
  await database.drop();
});

/** Every key's time of insertion, by the database's clock. */
async function noteInsertions(): Promise<void> {
  await database.pool.query(`
    create table insertions (kid text, at timestamptz default clock_timestamp());
    create function note_insertion() returns trigger language plpgsql as $$
      begin insert into public.insertions (kid) values (new.kid); return null; end $$;
    create trigger note_insertion after insert on keyfleet.signing_keys
      for each row execute function public.note_insertion()`);
}

async function databaseNowMs(): Promise<number> {
  const { rows } = await database.pool.query<{ ms: number }>(
    "select extract(epoch from clock_timestamp())::float8 * 1000 as ms",
  );
  return rows[0]?.ms ?? Number.NaN;
}

/** Issues until it has signed with two keys: every token has the database's times, and is taken by who reads elsewhere. */
async function issueByTwoKeys({ url }: TestInstance): Promise<void> {
  const keys = createRemoteJWKSet(new URL(`${right.url}/.well-known/jwks.json`), { cooldownDuration: 0 });
  const kids = new Set<string>();
  await eventually(
    async () => {
      const beforeMs = await databaseNowMs();
      const { access_token } = await login(url);
      const afterMs = await databaseNowMs();
      const { iat = 0, nbf, exp } = decodeJwt(access_token);
      expect(iat).toBeGreaterThanOrEqual(Math.floor(beforeMs / 1000));
      expect(iat).toBeLessThanOrEqual(Math.floor(afterMs / 1000));
      expect([nbf, exp]).toEqual([iat, iat + 5]);
      await jwtVerify(access_token, keys, { issuer: "http://localhost" });
      kids.add(decodeProtectedHeader(access_token).kid ?? "");
      return kids.size === 2;
    },
    15_000,
    100,
  );
}

test.each(clocks)(
  "an instance with a clock %s issues tokens that are right everywhere",
  async (_, nodeFlags) => {
    const skewed = await startInstance({ databaseUrl: database.url, settings, nodeFlags });
    try {
      await issueByTwoKeys(skewed);
      // A key that has just been published is known to one before the other.
      await eventually(async () => (await jwksOf(skewed)) === (await jwksOf(right)));
    } finally {
      await skewed.stop();
    }
    // Control: the clock is really wrong, for the instance's own log lines carry it.
    expect(Math.abs(lastLoggedMs(skewed) - (await databaseNowMs()))).toBeGreaterThan(3_000_000);
  },
  40_000,
);

function lastLoggedMs(instance: TestInstance): number {
  const times = [...instance.output().matchAll(/"time":"([^"]+)"/g)];
  return Date.parse(times.at(-1)?.[1] ?? "");
}

describe("an instance whose clocks run fast", () => {
  /** The best of eight readings is up to 0.9 s old, and the estimate 45 ms ahead by then; the rest is for a busy machine. */
  const aheadMs = 200;
  /** An instance looks at its keys every 250 ms, and the machine may be busy. */
  const lateMs = 1250;
  const periodMs = 5000;

  /** The keys of the instance, oldest first; times in milliseconds by the database's clock. */
  async function keys() {
    const ms = (name: string) => `extract(epoch from ${name})::float8 * 1000`;
    const { rows } = await database.pool.query<
      Record<"inserted" | "published" | "activates" | "retires", number>
    >(
      `select ${ms("i.at")} as inserted, ${ms("k.published_at")} as published,
              ${ms("k.activates_at")} as activates, ${ms("k.retires_at")} as retires
       from keyfleet.signing_keys k join insertions i using (kid)
       where k.instance_id = $1 order by k.retires_at`,
      [fast.instanceId],
    );
    return rows;
  }

  test("issues, publishes and drops keys at the right times", async () => {
    const dropped = () => fast.output().split("dropped the private half").length - 1;
    const before = dropped();
    const nextDropMs = async () => {
      await eventually(() => dropped() > before, 15_000);
      return databaseNowMs();
    };
    const [droppedMs] = await Promise.all([nextDropMs(), issueByTwoKeys(fast)]);
    const all = await keys();
    const dueMs = (all[before]?.retires ?? 0) + heldAfterRetirementMs;
    expect(droppedMs).toBeGreaterThan(dueMs - aheadMs);
    expect(droppedMs).toBeLessThan(dueMs + lateMs);
    for (const { inserted, published } of all) expect(published - inserted).toBeLessThan(aheadMs);
    // A period before they sign, but for its first tenth over which publications are spread; the first two at its start.
    const later = all.slice(2);
    expect(later.length).toBeGreaterThan(0);
    for (const { inserted, activates } of later) {
      expect(activates - inserted).toBeLessThan(periodMs + aheadMs);
      expect(activates - inserted).toBeGreaterThan(0.9 * periodMs - lateMs);
    }
    expect(await readMetric(fast, "keyfleet_clock_steps_total")).toBe(0);
  }, 40_000);

  test("control: its calendar is ahead of ours, and its clock outruns ours where it cannot read the database's", async () => {
    await eventually(async () => {
      await fetch(`${fast.url}/healthz`);
      return lastLoggedMs(fast) - Date.now() > 300;
    });
    const ageMs = async () => 1000 * (await readMetric(fast, "keyfleet_fleet_sync_age_seconds"));
    await inTransaction(database.pool, async (client) => {
      await client.query("lock table keyfleet.fleet_state in access exclusive mode");
      await eventually(async () => (await ageMs()) > 500);
      const sinceMs = performance.now();
      const before = await ageMs();
      await eventually(async () => (await ageMs()) - before > performance.now() - sinceMs + 50);
    });
  });
});
