import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { importJWK, jwtVerify } from "jose";
import type { Account } from "../../src/accounts/account.ts";
import type { KeyFault, PublishedKey } from "../../src/keys/published-key.ts";
import { generateSigningKey } from "../../src/keys/signing-key.ts";
import type { Ed25519PublicJwk } from "../../src/protocol/jwk.ts";
import { addAccount, alice, eventually, login, manageAccounts, postLogin } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, startInstance, type TestInstance } from "../support/instance.ts";
import { disarm, insertAccount, insertKey } from "./database-attacks.ts";
import {
  madeUpSeal,
  noSeal,
  ourAccount,
  ourKey,
  person,
  saidToBeOurs,
  strangersAccount,
  strangersKey,
  strangersSecretId,
  withAnotherId,
  withBareHash,
  withSealOf,
} from "./forged-rows.ts";
import { claimsNow, lowOrderToken, lowOrderX } from "./forged-tokens.ts";
import { servedKeys, verifyThrough } from "./stock-verification.ts";

/** Invariant I6: somebody may do anything in the database, but has no FLEET_SECRET. */

const issuer = "http://localhost";
const settings = { ISSUER: issuer, LOGIN_ATTEMPTS: "1000" };

describe("in the table of keys", () => {
  const stranger = generateSigningKey("EdDSA");
  const longAgo = { publishedAtMs: 1e12, activatesAtMs: 1e12, retiresAtMs: 1e12 + 1, expiresAtMs: 1e12 + 2 };

  const inserted: [string, KeyFault, PublishedKey][] = [
    ["of a stranger, without a seal", "not_sealed", withSealOf(strangersKey({ x: stranger.x }), noSeal)],
    ["of a stranger, with a made-up seal", "not_sealed", withSealOf(strangersKey(), madeUpSeal)],
    ["of a stranger, with a genuine row's seal", "not_sealed", withSealOf(strangersKey(), ourKey())],
    ["of another issuer's database", "not_sealed", strangersKey()],
    ["of another issuer's database, said to be ours", "not_sealed", saidToBeOurs(strangersKey())],
    ["of low order", "low_order", strangersKey({ x: lowOrderX.identity })],
    ["of low order, even if it were sealed", "low_order", ourKey({ x: lowOrderX.orderTwo })],
    ["under another key's kid, even if it were sealed", "not_a_thumbprint", ourKey({ kid: ourKey().kid })],
    ["long expired, with a later end", "not_sealed", { ...ourKey(longAgo), expiresAtMs: Date.now() + 1e6 }],
  ];

  /** What genuine rows, one each, are changed to. */
  const changes: [string, string, KeyFault, PublishedKey][] = [
    ["another x", `x = '${generateSigningKey("EdDSA").x}'`, "not_a_thumbprint", ourKey()],
    ["an earlier activation", "activates_at = activates_at - interval '1 minute'", "not_sealed", ourKey()],
    ["an earlier publication", "published_at = published_at - interval '1 day'", "not_sealed", ourKey()],
    ["a later retirement", "retires_at = retires_at + interval '30 minutes'", "not_sealed", ourKey()],
    ["a later expiry", "expires_at = expires_at + interval '1 day'", "not_sealed", ourKey()],
    ["another owner", "instance_id = gen_random_uuid()", "not_sealed", ourKey()],
    ["another alg", "alg = 'Ed25519'", "wrong_alg", ourKey()],
    ["no secret's id", "secret_id = ''", "not_sealed", ourKey()],
    ["another secret's id", `secret_id = '${strangersSecretId}'`, "not_sealed", ourKey()],
    ["another seal", "seal = sha256(seal)", "not_sealed", ourKey()],
  ];
  const swapped: [PublishedKey, PublishedKey] = [ourKey(), ourKey()];
  const ended = ourKey();
  const genuine = [...changes.map(([, , , row]) => row), ...swapped, ended];

  let database: TestDatabase;
  const instances: TestInstance[] = [];
  /** Knew the genuine rows before they were changed. */
  let veteran: TestInstance;
  /** Has seen nothing but what is there now. */
  let newcomer: TestInstance;
  let servedBefore: ReadonlyMap<string, Ed25519PublicJwk>;

  async function start(): Promise<TestInstance> {
    const instance = await startInstance({ databaseUrl: database.url, settings });
    instances.push(instance);
    return instance;
  }

  beforeAll(async () => {
    database = await freshDatabase();
    const { pool } = database;
    await addAccount(database.url);
    await disarm(pool);
    veteran = await start();
    for (const row of genuine) await insertKey(pool, row);
    await eventually(async () => (await servedKeys(veteran)).has(genuine.at(-1)?.kid ?? ""));
    servedBefore = await servedKeys(veteran);

    for (const [, , row] of inserted) await insertKey(pool, row);
    for (const [, change, , { kid }] of changes) {
      await pool.query(`update keyfleet.signing_keys set ${change} where kid = $1`, [kid]);
    }
    await pool.query(
      `update keyfleet.signing_keys set kid = case kid when $1 then $2 else $1 end where kid in ($1, $2)`,
      swapped.map(({ kid }) => kid),
    );
    const setEnd = "update keyfleet.signing_keys set retired_early_at = now() + interval '1 year'";
    await pool.query(`${setEnd} where kid = $1`, [ended.kid]);
    newcomer = await start();

    // Who serves what is written now has read whatever was written before.
    const last = ourKey();
    await insertKey(pool, last);
    for (const instance of instances) {
      await eventually(async () => (await servedKeys(instance)).has(last.kid));
    }
  }, 40_000);
  afterAll(async () => {
    await Promise.all(instances.map((instance) => instance.stop()));
    await database.drop();
  });

  const alarm = (kid: string, fault: KeyFault) => `"kid":"${kid}","fault":"${fault}"`;

  test.each(inserted)("a row %s is served by nobody, and an alarm", async (_, fault, { kid }) => {
    for (const instance of instances) {
      expect((await servedKeys(instance)).has(kid)).toBe(false);
      expect((await fetch(`${instance.url}/.well-known/jwks/${kid}`)).status).toBe(404);
      expect(instance.output()).toContain(alarm(kid, fault));
    }
  });

  /** Who knows the key keeps it as it was. */
  async function expectNotBelieved({ kid }: PublishedKey, fault: KeyFault): Promise<void> {
    for (const instance of instances) expect(instance.output()).toContain(alarm(kid, fault));
    expect((await servedKeys(newcomer)).has(kid)).toBe(false);
    expect(servedBefore.has(kid)).toBe(true);
    expect((await servedKeys(veteran)).get(kid)).toEqual(servedBefore.get(kid));
  }

  test.each(changes)("a genuine row with %s is not believed", async (_, _change, fault, row) => {
    await expectNotBelieved(row, fault);
  });

  test("two genuine rows with each other's kid are not believed", async () => {
    for (const row of swapped) await expectNotBelieved(row, "not_a_thumbprint");
  });

  test("an early end that is later than the published one lengthens nothing", async () => {
    for (const instance of instances) {
      expect((await servedKeys(instance)).get(ended.kid)).toEqual(servedBefore.get(ended.kid));
    }
  });

  test("every row that is not served is counted", async () => {
    const count = inserted.length + changes.length + swapped.length;
    for (const instance of instances) {
      expect(await readMetric(instance, "keyfleet_directory_rejected_keys")).toBe(count);
    }
  });

  test.each([
    ["a stranger signs", stranger.x, stranger.signAccessToken(claimsNow(issuer))],
    [
      "anyone makes under a key of low order",
      lowOrderX.identity,
      lowOrderToken(lowOrderX.identity, claimsNow(issuer)),
    ],
  ])("what %s is refused through every instance, though jose takes it", async (_, x, token) => {
    await jwtVerify(token, await importJWK({ kty: "OKP", crv: "Ed25519", x }, "EdDSA"), { issuer });
    for (const instance of instances) {
      await expect(verifyThrough(instance, token)).rejects.toThrow("no applicable key");
    }
  });

  test("logins go on, and their tokens verify everywhere", async () => {
    for (const issuing of instances) {
      const { access_token } = await login(issuing.url);
      for (const instance of instances) await verifyThrough(instance, access_token);
    }
  });
});

describe("in the table of accounts", () => {
  const mallory = person("mallory");
  const disabled = person("disabled");
  const lapsed = person("lapsed");
  const untouched = person("untouched");
  const madeUp = person("made-up", "keyfleet:admin");
  const asAlice = { username: "alice", password: mallory.password };

  const copyToAlice = (columns: string) =>
    `set (${columns}) = (select ${columns} from keyfleet.accounts where username = 'mallory')
     where username = 'alice'`;

  /** What accounts are changed to, and who logs in then. */
  const changes: [string, string, { username: string; scope?: string }][] = [
    ["alice has mallory's password", copyToAlice("password"), asAlice],
    ["alice has mallory's password and seal", copyToAlice("password, secret_id, seal"), asAlice],
    [
      "alice has all that mallory's seal covers",
      copyToAlice("password, scopes, enabled, must_change_password, version, secret_id, seal"),
      asAlice,
    ],
    [
      "alice and mallory have each other's name",
      `set username = case username when 'alice' then 'mallory' else 'alice' end
       where username in ('alice', 'mallory')`,
      asAlice,
    ],
    [
      "alice and mallory have each other's id",
      `set id = other.id from keyfleet.accounts other
       where (a.username, other.username) in (('alice', 'mallory'), ('mallory', 'alice'))`,
      mallory,
    ],
    [
      "mallory is an administrator",
      "set scopes = scopes || '{keyfleet:admin}' where username = 'mallory'",
      { ...mallory, scope: "keyfleet:admin" },
    ],
    ["mallory has a later version", "set version = version + 1 where username = 'mallory'", mallory],
    ["a disabled account is enabled", "set enabled = true where username = 'disabled'", disabled],
    [
      "an account need not change its password any more",
      "set must_change_password = false where username = 'lapsed'",
      lapsed,
    ],
  ];

  let database: TestDatabase;
  let instance: TestInstance;

  beforeAll(async () => {
    database = await freshDatabase();
    for (const each of [alice, mallory, disabled, lapsed, untouched]) await addAccount(database.url, each);
    await manageAccounts(database.url, async (accounts) => {
      await accounts.disable("disabled");
      await accounts.requirePasswordChange("lapsed");
    });
    await disarm(database.pool);
    await database.pool.query("create table accounts_before as table keyfleet.accounts");
    instance = await startInstance({ databaseUrl: database.url, settings });
  });
  afterEach(() =>
    database.pool.query("truncate keyfleet.accounts; insert into keyfleet.accounts table accounts_before"),
  );
  afterAll(async () => {
    await instance.stop();
    await database.drop();
  });

  const alarms = () => readMetric(instance, 'keyfleet_forged_rows_total{kind="account"}');

  /** Refused as if there were no such account, with an alarm; others notice nothing. */
  async function expectForgery(credentials: { username: string }): Promise<void> {
    const [alarmsBefore, outputBefore] = [await alarms(), instance.output().length];
    const response = await postLogin(instance.url, credentials);
    expect(response.status).toBe(401);
    expect(await response.json()).toMatchObject({ error: "invalid_credentials" });
    expect(await alarms()).toBe(alarmsBefore + 1);
    await eventually(() => instance.output().slice(outputBefore).includes("not written by Keyfleet"));
    await login(instance.url, untouched);
  }

  test("before anything is changed there is no alarm", async () => {
    const before = await alarms();
    for (const each of [alice, mallory, untouched]) await login(instance.url, each);
    expect((await postLogin(instance.url, disabled)).status).toBe(401);
    expect((await postLogin(instance.url, lapsed)).status).toBe(403);
    expect((await postLogin(instance.url, { ...mallory, scope: "keyfleet:admin" })).status).toBe(400);
    expect(await alarms()).toBe(before);
  });

  test.each(changes)("where %s, nobody logs in", async (_, change, credentials) => {
    await database.pool.query(`update keyfleet.accounts a ${change}`);
    await expectForgery(credentials);
  });

  test("a row of our own making logs in: nothing but what is forged is wrong with the others", async () => {
    await insertAccount(database.pool, ourAccount(madeUp));
    await login(instance.url, madeUp);
  });

  test.each<[string, () => Account]>([
    ["of another issuer's database", () => strangersAccount(madeUp)],
    ["of another issuer's database, its seal said to be ours", () => saidToBeOurs(strangersAccount(madeUp))],
    ["with a genuine row's seal", () => withSealOf(strangersAccount(madeUp), ourAccount(madeUp))],
    ["with a bare bcrypt hash", () => withBareHash(ourAccount(madeUp), madeUp.password)],
    ["with another account's hash and seal", () => withAnotherId(ourAccount(madeUp))],
  ])("where a row is added %s, nobody logs in", async (_, makeRow) => {
    await insertAccount(database.pool, makeRow());
    await expectForgery(madeUp);
  });

  test("made-up known addresses let nobody in and keep nobody out", async () => {
    await database.pool.query(
      `insert into keyfleet.account_addresses (account_id, address_block, last_login_at)
       select id, '127.0.0.1', now() + interval '1 year' from keyfleet.accounts on conflict do nothing`,
    );
    expect((await postLogin(instance.url, asAlice)).status).toBe(401);
    await login(instance.url);
    await database.pool.query("delete from keyfleet.account_addresses");
    await login(instance.url);
  });
});
