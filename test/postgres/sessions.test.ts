import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { createInstance } from "../../src/fleet/instance.ts";
import { sealPublication } from "../../src/keys/published-key.ts";
import { generateSigningKey } from "../../src/keys/signing-key.ts";
import { createAccountStore } from "../../src/postgres/accounts.ts";
import { createInstanceStore } from "../../src/postgres/instances.ts";
import { createPool, endPool, type Pool, servingTimeouts } from "../../src/postgres/pool.ts";
import { createSessionStore } from "../../src/postgres/sessions.ts";
import { createPublishedKeyStore } from "../../src/postgres/signing-keys.ts";
import { createJti } from "../../src/tokens/access-token.ts";
import type { LenderOffer } from "../../src/tokens/borrow-signature.ts";
import type { Issued, NotIssued } from "../../src/tokens/issuing.ts";
import { addAccount, alice, eventually, manageAccounts, testSecrets } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { noLending } from "../support/no-lenders.ts";

const propagationDelayMs = 60_000;
const tokenMs = 10_000;
const graceMs = 5000;

let database: TestDatabase;
let pool: Pool;
let own: string;
let other: string;
let accountId: string;

beforeAll(async () => {
  database = await freshDatabase();
  pool = createPool({ url: database.url, max: 12, timeouts: servingTimeouts, onError: () => undefined });
});
beforeEach(async () => {
  await addAccount(database.url);
  accountId = (await createAccountStore(pool).find(alice.username, "")).account?.id ?? "";
  own = await register();
  other = await register();
});
afterEach(() => database.clear());
afterAll(async () => {
  await endPool(pool);
  await database.drop();
});

async function register(): Promise<string> {
  const instance = createInstance();
  await createInstanceStore(pool).register(instance);
  return instance.id;
}

/** A sign of life, given `agoMs` ago by an instance that has been there for a minute before. */
async function beat(instanceId: string, { listening = true, agoMs = 0 } = {}): Promise<void> {
  await pool.query(
    `update keyfleet.instances set listening = $2, heartbeat_at = clock_timestamp() - $3 * interval '1 ms',
       connected_since = clock_timestamp() - ($3 + 60000) * interval '1 ms' where id = $1`,
    [instanceId, listening, agoMs],
  );
}

async function databaseNowMs(): Promise<number> {
  const { rows } = await pool.query<{ now: number }>("select clock_timestamp() as now");
  return Math.round(rows[0]?.now ?? 0);
}

/** A key that was published `agoMs` ago, whose times are moved there with the facts' trigger off. */
async function publish(instanceId: string, agoMs = 0, retiresInMs = 3_600_000): Promise<string> {
  const { kid, x } = generateSigningKey("EdDSA");
  const nowMs = await databaseNowMs();
  const retiresAtMs = nowMs + retiresInMs;
  const times = {
    publishedAtMs: nowMs,
    activatesAtMs: nowMs,
    retiresAtMs,
    expiresAtMs: retiresAtMs + tokenMs + graceMs,
  };
  const row = { kid, x, alg: "EdDSA", instanceId, ...times } as const;
  await createPublishedKeyStore(pool).publish(row, sealPublication(testSecrets, row), {
    maxSigners: 16,
    madeAtMs: row.publishedAtMs,
  });
  await pool.query(
    `begin; alter table keyfleet.signing_keys disable trigger user;
     update keyfleet.signing_keys set published_at = published_at - interval '${agoMs} ms',
       activates_at = activates_at - interval '${agoMs} ms' where kid = '${kid}';
     alter table keyfleet.signing_keys enable trigger user; commit`,
  );
  return kid;
}

interface StartChanges {
  readonly accountVersion?: number;
  readonly nowEstimateMs?: number;
  readonly lending?: Partial<LenderOffer>;
}

async function start(
  settled: string[],
  changes: StartChanges = {},
  unsettled: string[] = [],
): Promise<Issued | NotIssued> {
  const nowMs = await databaseNowMs();
  const settings = {
    instanceId: own,
    issuer: "https://id.example",
    propagationDelayMs,
    accessTokenTtlMs: tokenMs,
    verifyGraceMs: graceMs,
    refreshTokenTtlMs: 100_000,
  };
  const seal = { secretId: "", seal: Buffer.alloc(32) };
  const refresh = {
    generation: 0,
    refreshHash: Buffer.alloc(32),
    parentHash: null,
    rotatedAtMs: nowMs,
    rotationSalt: null,
    rotationSecretId: null,
    seal,
  };
  const session = {
    id: randomUUID(),
    accountId,
    clientId: "first-party",
    audience: "https://api.example",
    scope: "orders:read",
    authTimeMs: nowMs,
    expiresAtMs: nowMs + 100_000,
    seal,
    refresh,
  };
  return createSessionStore(pool, settings).start({
    session,
    accountVersion: changes.accountVersion ?? 1,
    origin: { address: "192.0.2.1", addressBlock: "192.0.2.1", userAgent: "test" },
    issue: {
      jti: createJti(),
      offer: { settled, unsettled, isMature: false },
      lending: { ...noLending, ...changes.lending },
      nowEstimateMs: changes.nowEstimateMs ?? nowMs,
    },
  });
}

const kidOf = (outcome: Issued | NotIssued) => (typeof outcome === "string" ? outcome : outcome.kid);
const minute = 60_000;

describe("the key that signs", () => {
  test("is the instance's own mature one, before another's, before its own that is not mature", async () => {
    const immature = await publish(own);
    const lent = await publish(other, 2 * minute);
    const mature = await publish(own, 2 * minute);
    const lending = { lenders: [lent], hearing: true };
    await beat(other, { listening: true });
    expect(kidOf(await start([immature, mature], { lending }))).toBe(mature);
    expect(kidOf(await start([immature], { lending }))).toBe(lent);
    expect(kidOf(await start([immature]))).toBe(immature);
  });

  test("is the oldest where none is mature", async () => {
    const younger = await publish(own, 1000);
    const older = await publish(own, 5000);
    expect(kidOf(await start([younger, older]))).toBe(older);
  });

  test("is one that was offered, and none that is not there", async () => {
    await publish(own, 2 * minute);
    expect(kidOf(await start([generateSigningKey("EdDSA").kid]))).toBe("no_signing_key");
    expect(kidOf(await start([]))).toBe("no_signing_key");
  });

  test("outlives the token and the grace for verifying it", async () => {
    const kid = await publish(own, 2 * minute);
    await pool.query(
      "update keyfleet.signing_keys set retired_early_at = clock_timestamp() - interval '1 s'",
    );
    expect(kidOf(await start([kid]))).toBe("no_signing_key");
  });

  test("is not one that has been revoked", async () => {
    const kid = await publish(own, 2 * minute);
    await pool.query("update keyfleet.signing_keys set revoked_at = clock_timestamp()");
    expect(kidOf(await start([kid]))).toBe("no_signing_key");
  });

  test("is unsettled only for an instance that is alone", async () => {
    const kid = await publish(own);
    expect(kidOf(await start([], {}, [kid]))).toBe("no_signing_key");
    await createInstanceStore(pool).stop(other);
    expect(kidOf(await start([], {}, [kid]))).toBe(kid);
  });
});

describe("nothing is issued, and nothing written", () => {
  async function expectNothingWritten(): Promise<void> {
    const { rows } = await pool.query<{ count: number }>(
      "select (select count(*) from keyfleet.sessions) + (select count(*) from keyfleet.issued_tokens) as count",
    );
    expect(rows[0]?.count).toBe(0);
  }

  test("to an account that has changed since, is disabled, or is gone", async () => {
    const kid = await publish(own, 2 * minute);
    expect(kidOf(await start([kid], { accountVersion: 2 }))).toBe("authority_changed");
    await manageAccounts(database.url, (accounts) => accounts.disable(alice.username));
    expect(kidOf(await start([kid], { accountVersion: 2 }))).toBe("authority_changed");
    accountId = randomUUID();
    expect(kidOf(await start([kid]))).toBe("authority_changed");
    await expectNothingWritten();
  });

  test.each([-2500, 2500])("to an instance whose clock is %p ms off", async (byMs) => {
    const kid = await publish(own, 2 * minute);
    const nowMs = await databaseNowMs();
    expect(kidOf(await start([kid], { nowEstimateMs: nowMs + byMs }))).toBe("clock_differs");
    await expectNothingWritten();
  });
});

describe("races", () => {
  test("no token is issued under a key after its revocation was answered", async () => {
    for (let round = 0; round < 10; round += 1) {
      const kid = await publish(own, 2 * minute);
      let revoked = false;
      const writers = Array.from({ length: 8 }, async () => {
        while (!revoked) await start([kid]);
      });
      await pool.query("update keyfleet.signing_keys set revoked_at = clock_timestamp() where kid = $1", [
        kid,
      ]);
      revoked = true;
      const { rows: before } = await pool.query("select from keyfleet.issued_tokens where kid = $1", [kid]);
      await Promise.all(writers);
      const { rows: after } = await pool.query("select from keyfleet.issued_tokens where kid = $1", [kid]);
      expect(after).toHaveLength(before.length);
    }
  });

  test("a login that waits for the account sees that it was disabled meanwhile", async () => {
    const kid = await publish(own, 2 * minute);
    const administrator = await pool.connect();
    await administrator.query("begin; update keyfleet.accounts set enabled = false, version = 2");
    const waiting = start([kid]);
    await eventually(async () => {
      const { rows } = await pool.query("select from pg_locks where not granted");
      return rows.length > 0;
    });
    await administrator.query("commit");
    administrator.release();
    expect(kidOf(await waiting)).toBe("authority_changed");
  });
});
