import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type { PublishedKey } from "../../src/keys/published-key.ts";
import { thumbprint } from "../../src/keys/signing-key.ts";
import {
  addAccount,
  alice,
  eventually,
  login,
  manageAccounts,
  postLogin,
  testSecrets,
} from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, startInstance, type TestInstance } from "../support/instance.ts";
import { confuseUsernames, disarm, insertKey, replaceStartSession } from "./database-attacks.ts";
import { ourKey, person } from "./forged-rows.ts";
import { servedKeys, verifyThrough } from "./stock-verification.ts";

/** Invariant I6 where the database answers what it should not: by another function, operator, type or null. */

const mallory = person("mallory");
const asAlice = { username: "alice", password: mallory.password };
const settings = { ISSUER: "http://localhost", LOGIN_ATTEMPTS: "1000" };

let database: TestDatabase;
let instance: TestInstance;
beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url, alice);
  await addAccount(database.url, mallory);
  await disarm(database.pool);
  instance = await startInstance({ databaseUrl: database.url, settings });
});
afterAll(async () => {
  await instance.stop();
  await database.drop();
});

async function queryOne(sql: string, values: readonly unknown[] = []): Promise<string> {
  const { rows } = await database.pool.query<{ value: string }>(sql, [...values]);
  return rows[0]?.value ?? "";
}

const idOf = (username: string) =>
  queryOne("select id as value from keyfleet.accounts where username = $1", [username]);
const forgedAccounts = () => readMetric(instance, 'keyfleet_forged_rows_total{kind="account"}');

/** Over which nobody knows any more how the database was. */
async function cutConnections(): Promise<void> {
  await database.pool.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where datname = current_database() and pid <> pg_backend_pid()`,
  );
}

/** Who serves what is written now has read whatever was written before. */
async function hasReadAll(): Promise<void> {
  const last = ourKey();
  await insertKey(database.pool, last);
  await eventually(async () => (await servedKeys(instance)).has(last.kid), 3000);
}

describe("where the issuing function was replaced", () => {
  let definition: string;
  let ownKid: string;
  const issued = (kid: string, time: string) =>
    `outcome := 'issued'; kid := '${kid}'; mature := true; issued_at := ${time};`;

  beforeAll(async () => {
    definition = await queryOne(
      "select pg_get_functiondef(oid) as value from pg_proc where proname = 'start_session'",
    );
    ownKid = await queryOne(
      "select kid as value from keyfleet.signing_keys where instance_id = $1 and activates_at <= now()",
      [instance.instanceId],
    );
  });
  afterEach(async () => {
    await database.pool.query(`drop function keyfleet.start_session; ${definition}`);
    await login(instance.url, mallory);
  });

  test("and chooses a key that another instance holds, there is no token", async () => {
    const { pool } = database;
    const others = ourKey();
    await insertKey(pool, others);
    await eventually(async () => (await servedKeys(instance)).has(others.kid));
    await replaceStartSession(pool, issued(others.kid, "clock_timestamp()"));
    expect((await postLogin(instance.url, mallory)).status).toBe(503);
  });

  test.each([
    ["in an hour", "clock_timestamp() + interval '1 hour'", "timestamptz"],
    ["an hour ago", "clock_timestamp() - interval '1 hour'", "timestamptz"],
    ["the end of time", "'infinity'", "timestamptz"],
    ["the year 2100, as a text", "'4102444800000'", "text"],
    ["no number", "'NaN'", "double precision"],
    ["a word", "'never'", "text"],
    ["an object", `'{"now": 1}'`, "json"],
  ])("and says that now is %s, there is no token", async (_, time, timeType) => {
    const outputBefore = instance.output().length;
    await replaceStartSession(database.pool, issued(ownKid, time), timeType);
    const response = await postLogin(instance.url, mallory);
    expect([response.status, await response.json()]).toMatchObject([500, { error: "server_error" }]);
    await eventually(() => instance.output().slice(outputBefore).includes("is not now"));
  });

  test("and records another's session, the token is of who logged in, with that scope alone", async () => {
    await replaceStartSession(
      database.pool,
      `insert into keyfleet.sessions (id, account_id, client_id, audience, scope, auth_time, expires_at,
         rotated_at, address, user_agent, secret_id, seal)
       values ((p_session).id, '${await idOf("alice")}', (p_session).client_id, (p_session).audience,
         'keyfleet:admin', (p_session).auth_time, (p_session).expires_at, now(), '', '',
         (p_session).secret_id, (p_session).seal);
       ${issued(ownKid, "clock_timestamp()")}`,
    );
    const { access_token, scope } = await login(instance.url, mallory);
    expect(scope).toBe("orders:read");
    expect(await verifyThrough(instance, access_token)).toMatchObject({ sub: await idOf("mallory"), scope });
  });

  test("and checks nothing, a wrong password is refused all the same", async () => {
    await replaceStartSession(database.pool, issued(ownKid, "clock_timestamp()"));
    await login(instance.url, mallory);
    expect((await postLogin(instance.url, asAlice)).status).toBe(401);
  });
});

describe("where the end of every key becomes something else", () => {
  afterEach(async () => {
    await database.pool.query(
      "alter table keyfleet.signing_keys alter retired_early_at type timestamptz using null",
    );
    await cutConnections();
    await hasReadAll();
  });

  test.each([
    ["no number", "double precision", "'NaN'"],
    ["a word", "text", "'never'"],
  ])("such as %s, those that are known are kept as they were", async (_, type, value) => {
    const known = ourKey();
    await insertKey(database.pool, known);
    await eventually(async () => (await servedKeys(instance)).has(known.kid));
    const before = await servedKeys(instance);
    await database.pool.query(
      `alter table keyfleet.signing_keys alter retired_early_at type ${type} using ${value}`,
    );
    await hasReadAll();
    const after = await servedKeys(instance);
    for (const [kid, key] of before) expect(after.get(kid)).toEqual(key);
  });
});

describe("where a value is missing", () => {
  beforeAll(async () => {
    await database.pool.query(`
      alter table keyfleet.signing_keys alter kid drop not null, alter x drop not null, alter alg drop not null,
        alter instance_id drop not null, alter secret_id drop not null, alter seal drop not null;
      alter table keyfleet.accounts alter password drop not null, alter scopes drop not null,
        alter secret_id drop not null, alter seal drop not null;
      create table accounts_before as table keyfleet.accounts`);
  });
  afterEach(async () => {
    await database.pool.query(`
      delete from keyfleet.signing_keys
        where kid is null or x is null or alg is null or instance_id is null or secret_id is null or seal is null;
      truncate keyfleet.accounts;
      insert into keyfleet.accounts table accounts_before`);
    await hasReadAll();
  });

  const without = (member: string) => ({ ...ourKey(), [member]: null }) as unknown as PublishedKey;
  const withSeal = (seal: unknown) => ({ ...ourKey(), seal }) as PublishedKey;
  const thumbprintOfNull = thumbprint(null as unknown as string);

  test.each<[string, PublishedKey]>([
    ["no kid", without("kid")],
    ["no x", without("x")],
    ["no x, under the thumbprint of that", { ...without("x"), kid: thumbprintOfNull }],
    ["no alg", without("alg")],
    ["no owner", without("instanceId")],
    ["no secret's id", withSeal({ secretId: null, seal: Buffer.alloc(32) })],
    ["no seal", withSeal({ secretId: testSecrets.current.id, seal: null })],
  ])("a key with %s is an alarm, and keeps nobody from the others", async (_, row) => {
    await insertKey(database.pool, row);
    await hasReadAll();
    expect(await readMetric(instance, "keyfleet_directory_rejected_keys")).toBe(1);
    expect((await servedKeys(instance)).has(row.kid)).toBe(false);
    expect(instance.output()).toContain(`"kid":"${row.kid}","fault"`);
  });

  test.each(["password", "scopes", "secret_id", "seal"])(
    "an account without %s is an alarm, and taken as unknown",
    async (column) => {
      const before = await forgedAccounts();
      await database.pool.query(`update keyfleet.accounts set ${column} = null where username = 'mallory'`);
      expect((await postLogin(instance.url, mallory)).status).toBe(401);
      expect(await forgedAccounts()).toBe(before + 1);
    },
  );
});

describe("where another account's row is the answer for a name", () => {
  beforeAll(() => confuseUsernames(database.pool, "alice", "mallory"));
  afterAll(async () => {
    await database.pool.query(`
      do $$ begin execute format('alter database %I reset search_path', current_database()); end $$;
      drop schema liar cascade`);
    await cutConnections();
  });
  beforeEach(() => eventually(async () => (await postLogin(instance.url, mallory)).status === 200));

  test("nobody logs in by it, and it is an alarm", async () => {
    const before = await forgedAccounts();
    expect((await postLogin(instance.url, asAlice)).status).toBe(401);
    expect(await forgedAccounts()).toBe(before + 1);
  });

  test("that account is not given what an administrator grants to that name", async () => {
    const granted = manageAccounts(database.url, (accounts) => accounts.grant("alice", "orders:refund"));
    await expect(granted).rejects.toThrow("not written by Keyfleet");
    expect((await login(instance.url, mallory)).scope).toBe("orders:read");
  });
});
