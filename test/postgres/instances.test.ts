import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { createHeartbeat, type Heartbeat } from "../../src/fleet/heartbeat.ts";
import { createInstance, type Instance, type InstanceStore } from "../../src/fleet/instance.ts";
import { keyStateAt, type PublishedKey } from "../../src/keys/published-key.ts";
import { commandTimeouts, createPool, endPool, type Pool } from "../../src/postgres/pool.ts";
import { createRevocationStore } from "../../src/postgres/revocations.ts";
import { testActing } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { createFleetRows, type FleetRows, whileReplaced } from "./fleet-rows.ts";

let database: TestDatabase;
let pool: Pool;
let fleet: FleetRows;
let instance: Instance;

beforeAll(async () => {
  database = await freshDatabase();
  pool = createPool({ url: database.url, max: 4, timeouts: commandTimeouts, onError: () => undefined });
  fleet = createFleetRows(pool);
});
beforeEach(async () => {
  instance = createInstance();
  await fleet.instances.register(instance);
});
afterEach(() => database.clear());
afterAll(async () => {
  await endPool(pool);
  await database.drop();
});

function heartbeat(store: Pick<InstanceStore, "register" | "beat" | "bar"> = fleet.instances): Heartbeat {
  return createHeartbeat({ instance, store, isListening: () => true });
}

async function row(): Promise<Record<string, number | boolean | null>> {
  const { rows } = await pool.query<Record<string, number | boolean | null>>(
    "select heartbeat_at, connected_since, listening, stopped_at from keyfleet.instances where id = $1",
    [instance.id],
  );
  return rows[0] ?? {};
}

describe("a heartbeat", () => {
  test("says when it was, that notifications arrive, and since when it has come without a gap", async () => {
    const heart = heartbeat();
    const { connected_since: registeredAtMs = null } = await row();
    expect(await heart.beat()).toBe("alive");
    const beatAtMs = heart.lastBeatAtMs();
    expect(await row()).toMatchObject({
      heartbeat_at: beatAtMs,
      connected_since: registeredAtMs,
      listening: true,
    });
    await pool.query("update keyfleet.instances set heartbeat_at = heartbeat_at - interval '16 s'");
    expect(await heart.beat()).toBe("alive");
    expect(await row()).toMatchObject({ connected_since: heart.lastBeatAtMs() });
  });

  test("goes on after an answer was lost", async () => {
    let isLost = true;
    const heart = heartbeat({
      ...fleet.instances,
      async beat(beat) {
        const answer = await fleet.instances.beat(beat);
        if (isLost) throw new Error("the answer was lost");
        return answer;
      },
    });
    await expect(heart.beat()).rejects.toThrow("lost");
    await expect(heart.beat()).rejects.toThrow("lost");
    isLost = false;
    expect([await heart.beat(), await heart.beat()]).toEqual(["alive", "alive"]);
  });

  test("of a second process under the same id is seen by the first that comes after it, and ends both", async () => {
    const { kid } = await fleet.publishKey(instance.id);
    const [one, other] = [heartbeat(), heartbeat()];
    expect(await one.beat()).toBe("alive");
    expect(await other.beat()).toBe("duplicated");
    expect(await one.beat()).toBe("stopped");
    const key = (await fleet.keys.find(kid)) as PublishedKey;
    expect(keyStateAt(key, await fleet.nowMs())).toBe("expired");
    const { rows } = await pool.query(
      "select from keyfleet.audit_events where event = 'instance_duplicated'",
    );
    expect(rows).toHaveLength(1);
  });

  test("control: were nobody's beat compared with the last, both would go on under one id, with the keys of one", async () => {
    const { kid } = await fleet.publishKey(instance.id);
    const [one, other] = [heartbeat(), heartbeat()];
    const comparison = ["beat", /if i\.beat not in \(p_expected, p_beat\) then/, "if false then"] as const;
    const outcomes = await whileReplaced(pool, comparison, async () => [
      await one.beat(),
      await other.beat(),
      await one.beat(),
    ]);
    expect(outcomes).toEqual(["alive", "alive", "alive"]);
    expect(keyStateAt((await fleet.keys.find(kid)) as PublishedKey, await fleet.nowMs())).toBe("active");
  });

  test("finds an older row of its own in a restored backup, or none, and goes on with either", async () => {
    const heart = heartbeat();
    await heart.beat();
    const { rows } = await pool.query<{ beat: string }>("select beat from keyfleet.instances");
    await heart.beat();
    await pool.query(
      "update keyfleet.instances set beat = $1, heartbeat_at = heartbeat_at - interval '1 h'",
      [rows[0]?.beat],
    );
    expect(await heart.beat()).toBe("alive");
    await pool.query("delete from keyfleet.instances");
    expect(await heart.beat()).toBe("alive");
    expect((await fleet.instances.list()).map(({ id }) => id)).toEqual([instance.id]);
  });

  test("of an instance that was stopped or revoked is not taken", async () => {
    const heart = heartbeat();
    await fleet.instances.stop(instance.id);
    expect(await heart.beat()).toBe("stopped");
    await pool.query("update keyfleet.instances set revoked_at = clock_timestamp()");
    expect(await heart.beat()).toBe("revoked");
  });

  test("tells a restored backup that its instance was revoked", async () => {
    const heart = heartbeat();
    await fleet.keys.revokeInstanceKeys(instance.id, true, "revoked", testActing);
    expect(await heart.beat()).toBe("revoked");
    await pool.query("update keyfleet.instances set revoked_at = null");
    expect(await heart.beat()).toBe("revoked");
    expect(await fleet.instances.list()).toMatchObject([{ revokedAtMs: expect.any(Number) }]);
  });
});

describe("an epoch", () => {
  async function isRenewed(lastBeatAtMs: number | null): Promise<boolean> {
    return createRevocationStore(pool).checkEpoch(0, instance.id, false, lastBeatAtMs);
  }

  test("ends where the instance's last sign of life is gone: records of tokens are gone with it", async () => {
    await createRevocationStore(pool).checkEpoch(0, instance.id, true, null);
    const heart = heartbeat();
    await heart.beat();
    const lastBeatAtMs = heart.lastBeatAtMs();
    expect(await isRenewed(lastBeatAtMs)).toBe(false);
    await pool.query("update keyfleet.instances set heartbeat_at = heartbeat_at - interval '1 ms'");
    expect(await isRenewed(lastBeatAtMs)).toBe(true);
    // Whoever notices after the first finds it done.
    expect(await isRenewed(lastBeatAtMs)).toBe(false);
  });
});

describe("keys that a restored backup lacks", () => {
  async function restore(keys: readonly PublishedKey[]): Promise<number> {
    return fleet.keys.restore(keys);
  }

  test("are put back unchanged, whoever's they are and whenever they were published", async () => {
    const own = await fleet.publishKey(instance.id);
    const others = await fleet.publishKey(await fleet.instance());
    const before = await fleet.keys.list();
    await pool.query("set session_replication_role = replica; delete from keyfleet.signing_keys");
    await pool.query("delete from keyfleet.instances; reset session_replication_role");
    expect(await restore([own, others])).toBe(2);
    expect(await fleet.keys.list()).toEqual(expect.arrayContaining([...before]));
    expect(await restore([own, others])).toBe(0);
  });

  test("are revoked and retired again, and the revocation is on the log again", async () => {
    const retired = await fleet.publishKey(await fleet.instance());
    await fleet.recordToken(retired.kid);
    await fleet.instances.stop(retired.instanceId);
    const revoked = await fleet.publishKey(instance.id);
    const who = { actor: "command", instanceId: null, address: null };
    await fleet.keys.revokeInstanceKeys(instance.id, false, "revoked", who);
    const before = await fleet.keys.list();
    await pool.query(
      `set session_replication_role = replica; delete from keyfleet.revocations;
       update keyfleet.signing_keys set revoked_at = null, retired_early_at = null;
       reset session_replication_role`,
    );
    expect(await restore(before)).toBe(2);
    expect(await fleet.keys.list()).toEqual(expect.arrayContaining([...before]));
    const { rows } = await pool.query("select type, id from keyfleet.revocations");
    expect(rows).toEqual([{ type: "key", id: revoked.kid }]);
  });

  test("are not put back once they have expired", async () => {
    const key = await fleet.publishKey(instance.id);
    const nowMs = await fleet.nowMs();
    expect(await restore([{ ...key, retiredEarlyAtMs: nowMs - 7_200_000 }])).toBe(0);
  });
});
