import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { expiryMs, keyStateAt, type PublishedKey } from "../../src/keys/published-key.ts";
import { commandTimeouts, createPool, endPool, type Pool } from "../../src/postgres/pool.ts";
import { eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { createFleetRows, type FleetRows, whileReplaced } from "./fleet-rows.ts";

const minuteMs = 60_000;

let database: TestDatabase;
let pool: Pool;
let fleet: FleetRows;

beforeAll(async () => {
  database = await freshDatabase();
  pool = createPool({ url: database.url, max: 40, timeouts: commandTimeouts, onError: () => undefined });
  fleet = createFleetRows(pool);
});
afterEach(() => database.clear());
afterAll(async () => {
  await endPool(pool);
  await database.drop();
});

async function outcomesOf(instanceIds: readonly string[], maxSigners: number): Promise<string[]> {
  const results = await Promise.all(instanceIds.map((id) => fleet.publish(id, maxSigners)));
  return results.map(({ outcome }) => outcome).sort();
}

/** So many instances that ask for a place at the same moment. */
async function contend(instances: number, maxSigners: number): Promise<number> {
  const ids: string[] = [];
  for (let count = 0; count < instances; count += 1) ids.push(await fleet.instance());
  // The first to insert is stopped here, with all others behind it: at the lock, or, without, at the same row.
  const holder = await pool.connect();
  await holder.query("begin; select from keyfleet.fleet_state for update");
  const outcomes = outcomesOf(ids, maxSigners);
  await eventually(async () => {
    const { rows } = await database.pool.query("select from pg_locks where not granted");
    return rows.length >= instances;
  });
  await holder.query("commit");
  holder.release();
  return (await outcomes).filter((outcome) => outcome === "published").length;
}

describe("a place among the signers", () => {
  test("is taken by as many as there are places, however many ask at once", async () => {
    expect(await contend(20, 3)).toBe(3);
  });

  test("control: without the lock before the count, more take one", async () => {
    const lock = ["publish_key", /perform pg_catalog\.pg_advisory_xact_lock[^;]*;/, ""] as const;
    expect(await whileReplaced(pool, lock, () => contend(20, 3))).toBeGreaterThan(3);
  });

  test("is kept by who has one", async () => {
    const [first, second] = [await fleet.instance(), await fleet.instance()];
    expect(await outcomesOf([first], 1)).toEqual(["published"]);
    expect(await outcomesOf([second], 1)).toEqual(["no_place"]);
    expect(await outcomesOf([first], 1)).toEqual(["published"]);
  });

  test("that was given away while its signer was silent is one too many: who has the highest id publishes no next key", async () => {
    const ids = [await fleet.instance(), await fleet.instance(), await fleet.instance()].sort();
    const [woken, ...others] = [ids[2] as string, ids[0] as string, ids[1] as string];
    await fleet.publishKey(woken);
    await fleet.beats(woken, { silentForSeconds: 16 });
    expect(await outcomesOf(others, 2)).toEqual(["published", "published"]);
    await fleet.beats(woken, {});
    expect(await outcomesOf(others, 2)).toEqual(["published", "published"]);
    expect(await outcomesOf([woken], 2)).toEqual(["no_place"]);
    // As soon as one of them leaves, it has its place again.
    await fleet.beats(others[0] as string, { leaving: true });
    expect(await outcomesOf([woken], 2)).toEqual(["published"]);
  });

  test.each([
    ["leaves", { leaving: true }],
    ["is dead", { silentForSeconds: 61 }],
    ["has been silent for 15 seconds, to who was here meanwhile", { silentForSeconds: 16 }],
  ])("is free when its signer %s", async (_, beats) => {
    const [signer, borrower] = [await fleet.instance(), await fleet.instance()];
    await fleet.publishKey(signer);
    await fleet.beats(signer, beats);
    expect(await outcomesOf([borrower], 1)).toEqual(["published"]);
  });

  test("is free when its signer has stopped", async () => {
    const [signer, borrower] = [await fleet.instance(), await fleet.instance()];
    await fleet.publishKey(signer);
    await fleet.instances.stop(signer);
    expect(await outcomesOf([borrower], 1)).toEqual(["published"]);
  });

  test("is not free to who has just come, and may be the one that was away", async () => {
    const signer = await fleet.instance();
    await fleet.publishKey(signer);
    await fleet.beats(signer, { silentForSeconds: 40 });
    const newcomer = await fleet.instance({ connectedForSeconds: 1 });
    expect(await outcomesOf([newcomer], 1)).toEqual(["no_place"]);
  });

  test("is not given to an instance that leaves", async () => {
    const leaving = await fleet.instance({ leaving: true });
    expect(await outcomesOf([leaving], 16)).toEqual(["instance_ended"]);
  });
});

describe("the limit of 90 unexpired keys", () => {
  /** Retired keys that are kept for their tokens, as a crash loop leaves them. */
  async function leaveKeys(count: number): Promise<void> {
    for (let left = 0; left < count; left += 1) {
      const id = await fleet.instance();
      const { kid } = await fleet.publishKey(id);
      await fleet.recordToken(kid);
      await fleet.instances.stop(id);
    }
  }

  test("leaves room for every signer's next key before a ring begins", async () => {
    const signer = await fleet.instance();
    await fleet.publishKey(signer);
    await leaveKeys(86);
    const newcomer = await fleet.instance();
    // 87, two of its own, and one that the signer will publish.
    expect(await outcomesOf([newcomer], 16)).toEqual(["published"]);
    await fleet.instances.stop(newcomer);
    await leaveKeys(1);
    const late = await fleet.instance();
    expect(await outcomesOf([late], 16)).toEqual(["no_place"]);
    expect(await outcomesOf([signer], 16)).toEqual(["published"]);
    // Control: were no room left, a ring would begin beside 89 keys, and could not go on.
    const room = ["has_place", / and unexpired \+ 2 \+ signers <= 90/, ""] as const;
    expect(await whileReplaced(pool, room, () => outcomesOf([late], 16))).toEqual(["published"]);
    expect(await outcomesOf([late], 16)).toEqual(["no_place"]);
  });

  test("has room for a first successor where as many signers leave at once as may be", async () => {
    const maxSigners = 29;
    for (let count = 0; count < maxSigners; count += 1) {
      const id = await fleet.instance();
      for (const _ of ["previous", "current", "next"]) await fleet.publish(id, maxSigners);
      await fleet.beats(id, { leaving: true });
    }
    expect(await outcomesOf([await fleet.instance()], maxSigners)).toEqual(["published"]);
    expect(await outcomesOf([await fleet.instance()], maxSigners)).toEqual(["no_place"]);
  });

  test("is never passed", async () => {
    const signer = await fleet.instance();
    const results: string[] = [];
    for (let count = 0; count < 92; count += 1) results.push((await fleet.publish(signer)).outcome);
    expect(results.filter((outcome) => outcome === "published")).toHaveLength(90);
    expect(results.slice(-2)).toEqual(["no_place", "no_place"]);
  });
});

describe("an instance that is lost", () => {
  async function ring(beats = {}): Promise<{ id: string; current: PublishedKey; next: PublishedKey }> {
    const id = await fleet.instance(beats);
    const current = await fleet.publishKey(id);
    await fleet.recordToken(current.kid);
    const nextTimes = {
      activatesAtMs: current.retiresAtMs,
      retiresAtMs: current.retiresAtMs + 60 * minuteMs,
    };
    const next = await fleet.publishKey(id, { ...nextTimes, expiresAtMs: nextTimes.retiresAtMs + minuteMs });
    return { id, current, next };
  }

  async function states(keys: readonly PublishedKey[]): Promise<string[]> {
    const nowMs = await fleet.nowMs();
    const found = await Promise.all(keys.map(({ kid }) => fleet.keys.find(kid)));
    return found.map((key) => keyStateAt(key as PublishedKey, nowMs));
  }

  test("has its current key retired, which is kept for its tokens, and its next one withdrawn", async () => {
    const witness = await fleet.instance();
    const lost = await ring();
    await fleet.beats(lost.id, { silentForSeconds: 59 });
    expect(await fleet.instances.retireLost(witness)).toEqual([]);
    expect(await states([lost.current, lost.next])).toEqual(["active", "published"]);
    await fleet.beats(lost.id, { silentForSeconds: 61 });
    expect(await fleet.instances.retireLost(witness)).toEqual([lost.id]);
    expect(await states([lost.current, lost.next])).toEqual(["retired", "expired"]);
    expect(await fleet.instances.retireLost(witness)).toEqual([]);
  });

  test("keeps a next key that is about to sign, until it does", async () => {
    const witness = await fleet.instance();
    const id = await fleet.instance({ silentForSeconds: 61 });
    const nowMs = await fleet.nowMs();
    const soon = await fleet.publishKey(id, { activatesAtMs: nowMs + minuteMs - 2000 });
    expect(await fleet.instances.retireLost(witness)).toEqual([]);
    await fleet.age(soon.kid, 60);
    expect(await fleet.instances.retireLost(witness)).toEqual([id]);
  });

  test.each([
    ["has itself been connected for less", { connectedForSeconds: 59 }],
    ["is itself silent", { silentForSeconds: 16 }],
  ])("is not judged by one that %s", async (_, beats) => {
    const lost = await ring();
    await fleet.beats(lost.id, { silentForSeconds: 300 });
    const witness = await fleet.instance(beats);
    expect(await fleet.instances.retireLost(witness)).toEqual([]);
    expect(await states([lost.current])).toEqual(["active"]);
  });

  test("after an outage of all, nobody is lost, whoever comes back first", async () => {
    const rings = [await ring(), await ring(), await ring()];
    for (const { id } of rings) await fleet.beats(id, { silentForSeconds: 300 });
    for (const { id } of rings) {
      const beat = { instanceId: id, beat: "b", expected: "", lastBeatAtMs: null, listening: true };
      expect((await fleet.instances.beat(beat)).outcome).toBe("alive");
      expect(await fleet.instances.retireLost(id)).toEqual([]);
    }
    expect(await states(rings.map(({ current }) => current))).toEqual(["active", "active", "active"]);
  });

  test("control: were the judge's own absence no matter, it would retire the keys of the living", async () => {
    const lost = [await ring(), await ring()];
    for (const { id } of lost) await fleet.beats(id, { silentForSeconds: 300 });
    const [first] = lost;
    const instanceId = first?.id ?? "";
    const guard = ["is_connected_for", /i\.connected_since <= p_now - p_duration and /, ""] as const;
    const retired = await whileReplaced(pool, guard, async () => {
      await fleet.instances.beat({
        instanceId,
        beat: "b",
        expected: "",
        lastBeatAtMs: null,
        listening: true,
      });
      return fleet.instances.retireLost(instanceId);
    });
    expect(retired).toHaveLength(1);
  });

  test("has a current key that signed nothing out of the JWKS at once", async () => {
    const witness = await fleet.instance();
    const id = await fleet.instance({ silentForSeconds: 61 });
    const { kid } = await fleet.publishKey(id);
    await fleet.instances.retireLost(witness);
    const key = (await fleet.keys.find(kid)) as PublishedKey;
    expect(expiryMs(key)).toBeLessThan(await fleet.nowMs());
  });
});

describe("an instance that leaves", () => {
  const delayMs = 10 * minuteMs;

  const replacedInMs = (leaving: string) => fleet.instances.replacedInMs(leaving, delayMs);

  async function leavingSigner(): Promise<string> {
    const id = await fleet.instance();
    await fleet.publishKey(id);
    await fleet.beats(id, { leaving: true });
    return id;
  }

  test("may go when it is alone, and not while others lean on its key", async () => {
    const leaving = await leavingSigner();
    expect(await replacedInMs(leaving)).toBe(0);
    const other = await fleet.instance();
    expect(await replacedInMs(leaving)).toBeUndefined();
    const { kid } = await fleet.publishKey(other);
    const inMs = await replacedInMs(leaving);
    expect(inMs).toBeLessThanOrEqual(delayMs);
    expect(inMs).toBeGreaterThan(delayMs - 10_000);
    await fleet.age(kid, 601);
    expect(await replacedInMs(leaving)).toBe(0);
  });

  test("may go where it has no keys: it has nothing to lend", async () => {
    const leaving = await fleet.instance({ leaving: true });
    await fleet.publishKey(await fleet.instance());
    expect(await replacedInMs(leaving)).toBe(0);
  });

  test.each([
    ["leaves itself", { leaving: true }],
    ["is silent", { silentForSeconds: 16 }],
    ["cannot hear a request", { listening: false }],
  ])("does not count on one that %s", async (_, beats) => {
    const leaving = await leavingSigner();
    await fleet.instance();
    const other = await fleet.instance();
    const { kid } = await fleet.publishKey(other);
    await fleet.age(kid, 601);
    await fleet.beats(other, beats);
    expect(await replacedInMs(leaving)).toBeUndefined();
  });
});
