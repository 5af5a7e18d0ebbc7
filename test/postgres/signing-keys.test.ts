import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { dayMs } from "../../src/clock.ts";
import { createInstance } from "../../src/fleet/instance.ts";
import {
  type KeyPublication,
  keyFault,
  keyStateAt,
  type PublishedKey,
  sealPublication,
} from "../../src/keys/published-key.ts";
import { generateSigningKey } from "../../src/keys/signing-key.ts";
import { createInstanceStore } from "../../src/postgres/instances.ts";
import { createPool, endPool, type Pool, type Queryable, servingTimeouts } from "../../src/postgres/pool.ts";
import { prune } from "../../src/postgres/prune.ts";
import { createPublishedKeyStore } from "../../src/postgres/signing-keys.ts";
import { eventually, testSecrets } from "../support/accounts.ts";
import { freshDatabase, inTransaction, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
let pool: Pool;
const instance = createInstance();
const keys = () => createPublishedKeyStore(pool);
const instances = () => createInstanceStore(pool);

beforeAll(async () => {
  database = await freshDatabase();
  pool = createPool({ url: database.url, max: 4, timeouts: servingTimeouts, onError: () => undefined });
});
beforeEach(async () => {
  await instances().register(instance);
});
afterEach(() => database.clear());
afterAll(async () => {
  await endPool(pool);
  await database.drop();
});

async function databaseNowMs(): Promise<number> {
  const { rows } = await pool.query<{ now: number }>("select clock_timestamp() as now");
  return Math.round(rows[0]?.now ?? 0);
}

async function publication(changes: Partial<KeyPublication> = {}): Promise<KeyPublication> {
  const { kid, x } = generateSigningKey("EdDSA");
  const nowMs = await databaseNowMs();
  const times = { activatesAtMs: nowMs, retiresAtMs: nowMs + 60_000, expiresAtMs: nowMs + 90_000 };
  return { kid, x, alg: "EdDSA", instanceId: instance.id, publishedAtMs: nowMs, ...times, ...changes };
}

async function publish(changes: Partial<KeyPublication> = {}): Promise<PublishedKey> {
  const row = await publication(changes);
  const result = await keys().publish(row, sealPublication(testSecrets, row), {
    maxSigners: 16,
    madeAtMs: row.publishedAtMs,
  });
  if (result.outcome !== "published") throw new Error(result.outcome);
  return result.key;
}

async function directoryVersion(): Promise<number> {
  const { rows } = await pool.query<{ version: number }>(
    "select directory_version as version from keyfleet.fleet_state",
  );
  return rows[0]?.version ?? -1;
}

describe("publishing", () => {
  test("gives the row back as it was sealed, to the millisecond", async () => {
    const key = await publish();
    expect(keyFault(testSecrets, "EdDSA", key)).toBeUndefined();
    expect(await keys().list()).toEqual([key]);
  });

  test("again, when the first answer was lost, gives the row of the first time", async () => {
    const first = await publish();
    const later = { ...first, publishedAtMs: first.publishedAtMs + 100_000 };
    const again = await keys().publish(later, sealPublication(testSecrets, later), {
      maxSigners: 16,
      madeAtMs: first.publishedAtMs,
    });
    expect(again).toEqual({ outcome: "published", key: first });
  });

  test("of a key that was made before its owner's keys were revoked is refused, whenever it comes", async () => {
    const [made, ring] = [await publication(), await publish()];
    const who = { actor: "command", instanceId: null, address: null };
    await keys().revokeInstanceKeys(instance.id, false, "revoked", who);
    const publishedAtMs = await databaseNowMs();
    const row = { ...made, publishedAtMs, activatesAtMs: publishedAtMs };
    const publishMadeAt = (madeAtMs: number) =>
      keys().publish(row, sealPublication(testSecrets, row), { maxSigners: 16, madeAtMs });
    expect(await publishMadeAt(ring.publishedAtMs)).toEqual({ outcome: "ring_revoked" });
    expect(await publishMadeAt(await databaseNowMs())).toMatchObject({ outcome: "published" });
  });

  test.each([-700, 700])("is refused with a time that is %p ms off the database's clock", async (byMs) => {
    const nowMs = await databaseNowMs();
    const row = await publication({ publishedAtMs: nowMs + byMs, activatesAtMs: nowMs + 1000 });
    const result = await keys().publish(row, sealPublication(testSecrets, row), {
      maxSigners: 16,
      madeAtMs: row.publishedAtMs,
    });
    expect(result).toEqual({ outcome: "clock_differs" });
  });

  test("is refused to an instance that is stopped, or unknown", async () => {
    await instances().stop(instance.id);
    await expect(publish()).rejects.toThrow("instance_ended");
    await expect(publish({ instanceId: randomUUID() })).rejects.toThrow("instance_ended");
  });

  test("raises the directory's version, and so does an end", async () => {
    const before = await directoryVersion();
    await publish();
    expect(await directoryVersion()).toBe(before + 1);
    await instances().stop(instance.id);
    expect(await directoryVersion()).toBeGreaterThan(before + 1);
  });

  test("is all that does: neither pruning nor the end of an instance without keys has the fleet read them", async () => {
    await publish();
    const before = await directoryVersion();
    await prune(pool, dayMs);
    const keyless = createInstance();
    await instances().register(keyless);
    await instances().stop(keyless.id);
    expect(await directoryVersion()).toBe(before);
  });
});

describe("a published key is a fact", () => {
  test.each([
    "expires_at = expires_at + interval '1 day'",
    "activates_at = activates_at - interval '1 second'",
    "instance_id = instance_id, x = reverse(x)",
    "alg = 'Ed25519'",
    "published_at = published_at - interval '1 hour'",
  ])("set %s is refused", async (change) => {
    const { kid } = await publish();
    await expect(
      pool.query(`update keyfleet.signing_keys set ${change} where kid = $1`, [kid]),
    ).rejects.toThrow();
  });

  test("its end may be set, then only move earlier", async () => {
    const { kid } = await publish();
    const setEnd = (sql: string) =>
      pool.query(`update keyfleet.signing_keys set retired_early_at = ${sql} where kid = $1`, [kid]);
    await setEnd("now() + interval '10 seconds'");
    await setEnd("now() + interval '5 seconds'");
    await expect(setEnd("now() + interval '20 seconds'")).rejects.toThrow("earlier");
    await expect(setEnd("null")).rejects.toThrow("earlier");
  });

  test("it is revoked once and for all", async () => {
    const { kid } = await publish();
    const revoke = (sql: string) =>
      pool.query(`update keyfleet.signing_keys set revoked_at = ${sql} where kid = $1`, [kid]);
    await revoke("now()");
    await expect(revoke("null")).rejects.toThrow("stays revoked");
  });

  test("it is not deleted before its end", async () => {
    const { kid } = await publish();
    await expect(pool.query("delete from keyfleet.signing_keys where kid = $1", [kid])).rejects.toThrow(
      "unexpired",
    );
  });

  test("its kid is the thumbprint of its key", async () => {
    const row = await publication({ kid: generateSigningKey("EdDSA").kid });
    await expect(
      keys().publish(row, sealPublication(testSecrets, row), { maxSigners: 16, madeAtMs: row.publishedAtMs }),
    ).rejects.toThrow("check constraint");
  });
});

test("a key that ended early is kept to its end as published: who was away learns of it, and puts nothing back", async () => {
  const { kid } = await publish();
  await inTransaction(database.pool, async (client) => {
    await client.query("set local session_replication_role = replica");
    await client.query(
      `update keyfleet.signing_keys set published_at = now() - interval '1 day', activates_at = now() - interval '1 day',
         retired_early_at = now() - interval '3 hours', retires_at = now(), expires_at = now() + interval '1 second'
       where kid = $1`,
      [kid],
    );
  });
  await prune(pool, dayMs);
  expect((await keys().list()).map((key) => key.kid)).toEqual([kid]);
});

describe("stopping an instance", () => {
  /** As the statement that issues a token under the key does. */
  async function recordToken(database: Queryable, kid: string): Promise<void> {
    await database.query(
      `insert into keyfleet.issued_tokens
         (jti, session_id, kid, instance_id, client_id, audience, scope, issued_at, expires_at)
       select $1::text, $2, k.kid, k.instance_id, '', '', '', clock_timestamp(), clock_timestamp() + interval '1 min'
         from keyfleet.signing_keys k where k.kid = $3 for share`,
      [randomUUID(), randomUUID(), kid],
    );
  }

  test("withdraws a current key under which nothing was issued", async () => {
    const { kid } = await publish();
    await instances().stop(instance.id);
    const [key] = await keys().list();
    expect(key?.kid).toBe(kid);
    expect(keyStateAt(key as PublishedKey, await databaseNowMs())).toBe("expired");
  });

  test("retires its current key by now, and withdraws its next", async () => {
    const current = await publish();
    await recordToken(pool, current.kid);
    const next = await publish({ activatesAtMs: current.retiresAtMs - 1000 });
    const beforeMs = await databaseNowMs();
    await instances().stop(instance.id);
    const [stopped, withdrawn] = await Promise.all([keys().find(current.kid), keys().find(next.kid)]);
    expect(stopped?.retiredEarlyAtMs).toBeGreaterThanOrEqual(beforeMs);
    expect(withdrawn?.retiredEarlyAtMs).toBeLessThan(next.activatesAtMs);
    const nowMs = await databaseNowMs();
    const states = (await keys().list()).map((key) => [key.kid, keyStateAt(key, nowMs)]);
    expect(new Map(states as [string, string][])).toEqual(
      new Map([
        [current.kid, "retired"],
        [next.kid, "expired"],
      ]),
    );
  });

  test("waits for a statement that issues under its key: the end is after what was issued", async () => {
    const { kid } = await publish();
    const issuing = await pool.connect();
    await issuing.query("begin");
    await recordToken(issuing, kid);
    const stopped = instances().stop(instance.id);
    await eventually(async () => {
      const { rows: waiting } = await pool.query("select from pg_locks where not granted");
      return waiting.length > 0;
    });
    const { rows: committed } = await issuing.query<{ now: number }>("select clock_timestamp() as now");
    await issuing.query("commit");
    issuing.release();
    await stopped;
    const key = await keys().find(kid);
    expect(key?.retiredEarlyAtMs).toBeGreaterThanOrEqual(Math.floor(committed[0]?.now ?? Number.NaN));
  });
});
