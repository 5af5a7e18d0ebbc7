/** The database goes back in time under a running fleet: no key is lost, and no honest token counts as forged. */

import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { addClient, basic } from "../http/endpoint-fixture.ts";
import { replaceInFunction } from "../postgres/fleet-rows.ts";
import { addAccount, eventually, login } from "../support/accounts.ts";
import { freshDatabase, inTransaction, type TestDatabase } from "../support/database.ts";
import { readMetric, type Settings, startInstance, type TestInstance } from "../support/instance.ts";
import { servedKeys, verifyThrough } from "./stock-verification.ts";

const issuer = "https://id.example";
const tables = ["fleet_state", "instances", "signing_keys", "revocations", "sessions", "issued_tokens"];

let database: TestDatabase;
let instances: TestInstance[];
let secret: string;

beforeEach(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  secret = await addClient(database, { id: "shop", audiences: [issuer], scopes: [] }, issuer);
  instances = [];
});
afterEach(async () => {
  await Promise.all(instances.map((instance) => instance.stop("SIGKILL")));
  await database.drop();
});

async function start(settings: Settings = {}): Promise<TestInstance> {
  const options = { databaseUrl: database.url, settings: { ISSUER: issuer, AUDIENCES: issuer, ...settings } };
  const instance = await startInstance(options);
  instances.push(instance);
  return instance;
}

/** Of a fleet that has been up for a while: every token since is on record. */
async function backUp(): Promise<void> {
  await database.pool.query(
    "update keyfleet.fleet_state set complete_since = complete_since - interval '1 h'",
  );
  const copies = tables.map((table) => `create table backup.${table} as table keyfleet.${table};`);
  await database.pool.query(`create schema backup; ${copies.join(" ")}`);
}

async function restore(): Promise<void> {
  await inTransaction(database.pool, async (client) => {
    await client.query("set local session_replication_role = replica");
    for (const table of tables) {
      await client.query(
        `delete from keyfleet.${table}; insert into keyfleet.${table} table backup.${table}`,
      );
    }
  });
}

async function epoch(): Promise<string> {
  const { rows } = await database.pool.query<{ epoch: string }>("select epoch from keyfleet.fleet_state");
  return rows[0]?.epoch ?? "";
}

async function introspect({ url }: TestInstance, token: string): Promise<unknown> {
  const body = new URLSearchParams({ token });
  const init = { method: "POST", headers: basic("shop", secret), body };
  let response = await fetch(`${url}/introspect`, init);
  // Its connections may just have been cut.
  await eventually(async () => {
    if (response.status === 503) response = await fetch(`${url}/introspect`, init);
    return response.status !== 503;
  });
  return response.json();
}

/** A backup is older than the last sign of life: what a failover loses is known by the server's timeline. */
async function untilBeatenSince(backedUpEarlier: readonly TestInstance[]): Promise<void> {
  // An instance beats at once when it hears notifications again.
  await database.pool.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where datname = current_database() and application_name = 'keyfleet-listen'`,
  );
  await eventually(async () => {
    const { rows } = await database.pool.query(
      `select from keyfleet.instances i join backup.instances b using (id)
       where i.heartbeat_at > b.heartbeat_at and id = any ($1)`,
      [backedUpEarlier.map(({ instanceId }) => instanceId)],
    );
    return rows.length === backedUpEarlier.length;
  });
}

test.each([
  ["while everybody stays connected", false],
  ["and everybody has to connect anew", true],
])("every key is put back, and what was issued since is no forgery: %s", async (_, cutsConnections) => {
  const first = await start();
  await login(first.url);
  await backUp();
  const backedUpEpoch = await epoch();
  // Of these the backup knows nothing: an instance, its keys, tokens of both.
  const second = await start();
  const tokens = [];
  for (const { url } of [first, second]) tokens.push((await login(url)).access_token);
  for (const token of tokens) expect(await introspect(first, token)).toMatchObject({ active: true });
  await untilBeatenSince([first]);
  const before = [...(await servedKeys(first)).keys()];
  expect(before).toHaveLength(4);

  await restore();
  if (cutsConnections) {
    await database.pool.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and application_name like 'keyfleet%'`,
    );
  }
  // By whoever is asked first, perhaps before anybody noticed.
  for (const token of tokens) expect(await introspect(first, token)).toEqual({ active: false });
  await eventually(async () => (await epoch()) !== backedUpEpoch);
  await eventually(async () => {
    const { rows } = await database.pool.query<{ kid: string }>("select kid from keyfleet.signing_keys");
    return before.every((kid) => rows.some((row) => row.kid === kid));
  });
  for (const instance of instances) {
    expect([...(await servedKeys(instance)).keys()]).toEqual(before);
    for (const token of tokens) {
      await verifyThrough(instance, token);
      expect(await introspect(instance, token)).toEqual({ active: false });
    }
    expect(await readMetric(instance, "keyfleet_forged_tokens_total")).toBe(0);
    await eventually(async () => (await fetch(`${instance.url}/readyz/issue`)).status === 200);
    await login(instance.url);
    expect(instance.output()).not.toContain("both begin anew");
  }
  const restored = instances.map((instance) =>
    readMetric(instance, "keyfleet_directory_restored_keys_total"),
  );
  // The two that the backup lacks, by whoever came first.
  expect((await Promise.all(restored)).reduce((sum, rows) => sum + rows)).toBe(2);
  // A newcomer learns from the table alone.
  const third = await start();
  for (const token of tokens) await verifyThrough(third, token);
});

test("an instance that is stopped before it has noticed leaves its key served as long as what it signed since is valid", async () => {
  const first = await start();
  await backUp();
  const { access_token } = await login(first.url);
  await untilBeatenSince([first]);
  await restore();
  expect(await first.stop()).toBe(0);

  const second = await start();
  await verifyThrough(second, access_token);
});

test("control: were the records believed as they are, honest tokens would count as forged", async () => {
  const first = await start();
  await backUp();
  const { access_token } = await login(first.url);
  await replaceInFunction(
    database.pool,
    "begin_epoch_after",
    /where complete_since <= p_known_at/,
    "where false",
  );
  await untilBeatenSince([first]);
  await restore();
  await introspect(first, access_token);
  expect(await readMetric(first, "keyfleet_forged_tokens_total")).toBe(1);
});
