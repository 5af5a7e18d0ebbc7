import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { commandTimeouts, createPool, endPool, type Pool } from "../../src/postgres/pool.ts";
import { issuerRecord } from "../../src/postgres/records.ts";
import type { LenderOffer } from "../../src/tokens/borrow-signature.ts";
import { eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { type Beats, createFleetRows, type FleetRows, whileReplaced } from "./fleet-rows.ts";

const settings = {
  issuer: "https://id.example",
  propagationDelayMs: 600_000,
  accessTokenTtlMs: 10_000,
  verifyGraceMs: 5000,
};

let database: TestDatabase;
let pool: Pool;
let fleet: FleetRows;
let borrower: string;
/** The borrower's own key, which no cache knows yet. */
let own: string;

beforeAll(async () => {
  database = await freshDatabase();
  pool = createPool({ url: database.url, max: 12, timeouts: commandTimeouts, onError: () => undefined });
  fleet = createFleetRows(pool);
});
beforeEach(async () => {
  borrower = await fleet.instance();
  own = (await fleet.publishKey(borrower)).kid;
});
afterEach(() => database.clear());
afterAll(async () => {
  await endPool(pool);
  await database.drop();
});

/** A signer whose key has been public for longer than the propagation delay. */
async function lender(beats: Beats = {}): Promise<{ id: string; kid: string }> {
  const id = await fleet.instance();
  const { kid } = await fleet.publishKey(id);
  await fleet.age(kid, 601);
  await fleet.beats(id, beats);
  return { id, kid };
}

/** What the issuing statement chooses for the borrower: a kid, and whether caches know it. */
async function choose(
  lenders: readonly { readonly kid: string }[],
  offer: Partial<LenderOffer> = {},
): Promise<{ kid: string | null; mature: boolean }> {
  const lending = { lenders: lenders.map(({ kid }) => kid), avoided: [], hearing: true, ...offer };
  const issue = {
    jti: "",
    offer: { settled: [own], unsettled: [], isMature: false },
    lending,
    nowEstimateMs: await fleet.nowMs(),
  };
  const { rows } = await pool.query<{ kid: string | null; mature: boolean }>(
    `select kid, mature from keyfleet.choose_signing_key(
       jsonb_populate_record(null::keyfleet.issuer, $1), clock_timestamp())`,
    [issuerRecord({ ...settings, instanceId: borrower }, issue)],
  );
  return rows[0] ?? { kid: null, mature: false };
}

const nobody = { kid: null };

describe("a lender", () => {
  test("is any live instance whose key is mature, each in turn", async () => {
    const lenders = [await lender(), await lender(), await lender()];
    const chosen = new Set<string | null>();
    await eventually(async () => {
      const { kid, mature } = await choose(lenders);
      expect(mature).toBe(true);
      chosen.add(kid);
      return chosen.size === lenders.length;
    });
    expect([...chosen].sort()).toEqual(lenders.map(({ kid }) => kid).sort());
  });

  test("lends while it leaves", async () => {
    const leaving = await lender({ leaving: true });
    expect(await choose([leaving])).toEqual({ kid: leaving.kid, mature: true });
  });

  test("is one that the borrower knows: a row that it does not offer is not there", async () => {
    await lender();
    expect(await choose([])).toEqual({ kid: own, mature: false });
  });

  test("has a key that caches know", async () => {
    const young = await lender();
    await fleet.age(young.kid, -10);
    expect(await choose([young])).toEqual({ kid: own, mature: false });
  });

  test("has a key that outlives the token, and the grace for verifying it (I2)", async () => {
    const id = await fleet.instance();
    const nowMs = await fleet.nowMs();
    const times = { retiresAtMs: nowMs + 9000, expiresAtMs: nowMs + 14_000 };
    const ending = await fleet.publishKey(id, times);
    await fleet.age(ending.kid, 601);
    expect(await choose([ending])).toEqual({ kid: own, mature: false });
  });

  test("lends to nobody who was stopped or revoked", async () => {
    const lenders = [await lender()];
    await pool.query("update keyfleet.instances set revoked_at = clock_timestamp() where id = $1", [
      borrower,
    ]);
    expect(await choose(lenders)).toMatchObject(nobody);
    borrower = randomUUID();
    expect(await choose(lenders)).toMatchObject(nobody);
  });
});

describe("while a mature signer lives that cannot lend", () => {
  test.each([
    ["it does not hear requests", { listening: false }, {}],
    ["the borrower would not hear its answer", {}, { hearing: false }],
  ])("nothing is issued: %s", async (_, beats, offer) => {
    const only = await lender(beats);
    expect(await choose([only], offer)).toMatchObject(nobody);
  });

  test("nothing is issued: it did not answer lately, and another is asked", async () => {
    const silent = await lender();
    const avoided = [silent.id];
    expect(await choose([silent], { avoided })).toMatchObject(nobody);
    const other = await lender();
    expect(await choose([silent, other], { avoided })).toEqual({ kid: other.kid, mature: true });
  });

  test("control: were the own key taken then, a token would go out that caches refuse", async () => {
    const only = await lender({ listening: false });
    const guard = ["choose_signing_key", /if lender\.exists_one then return; end if;/, ""] as const;
    expect(await whileReplaced(pool, guard, () => choose([only]))).toEqual({ kid: own, mature: false });
  });
});

describe("the own key that is not mature signs", () => {
  test.each([
    ["is stopped", "update keyfleet.instances set stopped_at = clock_timestamp() where id = $1"],
    ["is revoked", "update keyfleet.instances set revoked_at = clock_timestamp() where id = $1"],
    [
      "has a revoked key",
      "update keyfleet.signing_keys set revoked_at = clock_timestamp() where instance_id = $1",
    ],
    [
      "has a retired key",
      "update keyfleet.signing_keys set retired_early_at = clock_timestamp() where instance_id = $1",
    ],
  ])("where the only mature signer %s", async (_, statement) => {
    const only = await lender();
    await pool.query(statement, [only.id]);
    expect(await choose([only])).toEqual({ kid: own, mature: false });
  });

  test("where the only mature signer has been silent for 15 seconds, if the borrower was here meanwhile", async () => {
    const only = await lender({ silentForSeconds: 16 });
    expect(await choose([only])).toEqual({ kid: own, mature: false });
    await fleet.beats(borrower, { connectedForSeconds: 5 });
    expect(await choose([only])).toMatchObject(nobody);
    await fleet.beats(only.id, { silentForSeconds: 61 });
    expect(await choose([only])).toEqual({ kid: own, mature: false });
  });
});
