import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { type Listener, startListening } from "../../src/postgres/listen.ts";
import type { Pool } from "../../src/postgres/pool.ts";
import { eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
/** Notifications stay within a database: what is sent here is never heard there, as behind a transaction pooler. */
let other: TestDatabase;
let listener: Listener;
let heard: string[];
let connections: number;
let losses: string[];

beforeAll(async () => {
  [database, other] = await Promise.all([freshDatabase(), freshDatabase()]);
});
afterEach(() => listener.close());
afterAll(() => Promise.all([database.drop(), other.drop()]));

function listen(pool: Pick<Pool, "query">, probeTimeoutMs = 100): void {
  heard = [];
  connections = 0;
  losses = [];
  listener = startListening({
    url: database.url,
    pool: pool as Pool,
    channels: ["keyfleet_directory"],
    probeEveryMs: 20,
    probeTimeoutMs,
    onNotification: (channel, payload) => heard.push(`${channel} ${payload}`),
    onConnected: () => {
      connections += 1;
    },
    onHearing: () => undefined,
    onLost: (reason) => losses.push(reason),
  });
}

test("what is notified is heard, and probes are kept to itself", async () => {
  listen(database.pool, 5000);
  await eventually(() => listener.isHearing());
  await database.pool.query("select pg_notify('keyfleet_directory', 'a')");
  await eventually(() => heard.length > 0);
  expect({ heard, connections, losses }).toEqual({
    heard: ["keyfleet_directory a"],
    connections: 1,
    losses: [],
  });
});

test("where no probe ever comes back it tries again and again, and tells so once", async () => {
  listen(other.pool);
  await eventually(() => connections >= 3);
  expect(listener.isHearing()).toBe(false);
  expect(losses).toEqual(["no probe within 100 ms"]);
});

test("a loss after notifications were heard again is told again", async () => {
  const end = () =>
    database.pool.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'keyfleet-listen' and datname = current_database()",
    );
  listen(database.pool);
  for (const count of [1, 2]) {
    await eventually(() => listener.isHearing());
    await end();
    await eventually(() => losses.length === count);
  }
  await eventually(() => listener.isHearing());
});
