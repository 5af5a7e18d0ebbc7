import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { type Listener, startListening } from "../../src/postgres/listen.ts";
import { createPool, endPool, type Pool, servingTimeouts } from "../../src/postgres/pool.ts";
import { type CountingProxy, startCountingProxy } from "../http/counting-proxy.ts";
import { eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
let pool: Pool;
let proxy: CountingProxy;
let listeners: Listener[];

beforeEach(async () => {
  database = await freshDatabase();
  pool = createPool({ url: database.url, max: 2, timeouts: servingTimeouts, onError: () => undefined });
  proxy = await startCountingProxy(database.url);
  listeners = [];
});
afterEach(async () => {
  await Promise.all(listeners.map((listener) => listener.close()));
  await proxy.close();
  await endPool(pool);
  await database.drop();
});

async function listen(url: string, probeEveryMs: number): Promise<void> {
  const nothing = () => undefined;
  const heard = { onNotification: nothing, onConnected: nothing, onHearing: nothing, onLost: nothing };
  const listener = startListening({ url, pool, channels: ["keyfleet_directory"], probeEveryMs, ...heard });
  listeners.push(listener);
  await eventually(async () => listener.isHearing());
}

test("a listener is not woken by the probes of others", async () => {
  await listen(proxy.url, 60_000);
  const before = proxy.answers();
  const query = pool.query.bind(pool) as (...sent: unknown[]) => unknown;
  let probes = 0;
  pool.query = ((...sent: unknown[]) => {
    probes += 1;
    return query(...sent);
  }) as typeof pool.query;
  await listen(database.url, 1);
  // Each probe is sent once the one before was heard.
  await eventually(async () => probes > 20);
  expect(proxy.answers()).toBe(before);
});
