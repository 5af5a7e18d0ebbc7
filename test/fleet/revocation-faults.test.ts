import { setTimeout as pause } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import type pg from "pg";
import { eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, type Settings, startInstance, type TestInstance } from "../support/instance.ts";
import {
  asOfOf,
  openStream,
  readSnapshot,
  revocationOf,
  type StreamConnection,
} from "../support/revocation-stream.ts";
import { readLog, revokeIds } from "../support/revocations.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

const intervalMs = 500;
const unhurried = { FLEET_SYNC_INTERVAL: `${intervalMs}ms` };
let database: TestDatabase;
let proxy: TcpProxy;
/** Come through everything that is done to the database. */
let both: readonly [TestInstance, TestInstance];
/** By a test, which is their end as well. */
let instances: TestInstance[] = [];
const streams: StreamConnection[] = [];
let locking: pg.PoolClient | undefined;

beforeAll(async () => {
  database = await freshDatabase();
  proxy = await startTcpProxy(database.url);
  both = await Promise.all([start(database.url, unhurried), start(database.url, unhurried)]);
  instances = [];
}, 20_000);
afterEach(async () => {
  locking?.release(true);
  locking = undefined;
  for (const stream of streams.splice(0)) stream.close();
  proxy.setMode("pass");
  await Promise.all(instances.splice(0).map((instance) => instance.stop("SIGKILL")));
});
afterAll(async () => {
  await Promise.all(both.map((instance) => instance.stop("SIGKILL")));
  await proxy.close();
  await database.drop();
});

/** Resolves when it listens: it may not have read anything yet. */
async function launch(databaseUrl: string, settings: Settings = {}): Promise<TestInstance> {
  const instance = await startInstance({ databaseUrl, settings, untilReady: false });
  instances.push(instance);
  return instance;
}

/** Resolves when it serves what it has read, which is before it can issue tokens. */
async function start(databaseUrl = database.url, settings: Settings = {}): Promise<TestInstance> {
  const instance = await launch(databaseUrl, settings);
  await eventually(async () => (await fetch(`${instance.url}/readyz`)).status === 200);
  return instance;
}

/** Connects and waits until the stream is ready. */
async function follow({ url }: TestInstance): Promise<StreamConnection> {
  const stream = await openStream(url);
  streams.push(stream);
  await eventually(() => stream.events.some(({ type }) => type === "ready"));
  return stream;
}

const arrivalOf = (stream: StreamConnection, revokedId: string) =>
  stream.events.find((event) => event.type === "revocation" && revocationOf(event).id === revokedId)?.atMs;
const asOf = async ({ url }: TestInstance) => (await readSnapshot(url)).snapshot.as_of;

test("an instance that has not read the log yet is not ready, and gives no answer about revocations", async () => {
  const [revoked] = await revokeIds(database.pool, 1);
  locking = await database.pool.connect();
  await locking.query("begin; lock table keyfleet.revocations in access exclusive mode");
  const instance = await launch(database.url);
  const readiness = async () => {
    const response = await fetch(`${instance.url}/readyz`);
    const { checks } = (await response.json()) as { checks: Record<string, boolean> };
    return { status: response.status, checks };
  };
  await eventually(async () => (await readiness()).checks["keys_loaded"] === true);
  expect(await readiness()).toMatchObject({ status: 503, checks: { revocations_loaded: false } });
  expect((await readSnapshot(instance.url)).status).toBe(503);
  const refused = await openStream(instance.url);
  expect(refused.status).toBe(503);
  expect(refused.headers["retry-after"]).toBe("1");

  await locking.query("rollback");
  await eventually(async () => (await readiness()).status === 200);
  const { events } = (await readSnapshot(instance.url)).snapshot;
  expect(events.map(({ id }) => id)).toContain(revoked);
});

test("an instance cut off from the database says so: its as_of stands still, and another's rises", async () => {
  const [cutOff, connected] = [await start(proxy.url), both[0]];
  const stream = await follow(cutOff);
  proxy.setMode("hang");
  // Answers that were on their way still count.
  await eventually(
    async () => (await readMetric(cutOff, "keyfleet_fleet_sync_age_seconds")) > 0.5,
    10_000,
    100,
  );
  const stoodAt = await asOf(cutOff);
  const heartbeatsBefore = stream.events.length;
  await eventually(async () => (await asOf(connected)) >= stoodAt + 4, 10_000, 100);
  expect(await asOf(cutOff)).toBe(stoodAt);
  const heartbeats = stream.events.slice(heartbeatsBefore);
  expect(heartbeats.length).toBeGreaterThanOrEqual(2);
  expect(new Set(heartbeats.map(asOfOf))).toEqual(new Set([stoodAt]));
  expect(await readMetric(cutOff, "keyfleet_revocation_age_seconds")).toBeGreaterThan(2);

  const [missed = ""] = await revokeIds(database.pool, 1);
  proxy.setMode("pass");
  await eventually(() => arrivalOf(stream, missed) !== undefined);
  await eventually(async () => (await asOf(cutOff)) > stoodAt);
});

describe("notifications", () => {
  /** How long events take to arrive at the streams, of so many revocations one after another. */
  async function latenciesMs(count: number, on: readonly StreamConnection[]): Promise<number[][]> {
    const all: number[][] = on.map(() => []);
    for (let round = 0; round < count; round += 1) {
      // At any time between two readings.
      await pause(Math.random() * 200);
      const [id = ""] = await revokeIds(database.pool, 1);
      const answeredAtMs = performance.now();
      await eventually(() => on.every((stream) => arrivalOf(stream, id) !== undefined));
      for (const [index, stream] of on.entries()) {
        all[index]?.push((arrivalOf(stream, id) ?? Number.NaN) - answeredAtMs);
      }
    }
    return all;
  }

  test("that are lost, or whose connection ends again and again, cost at most FLEET_SYNC_INTERVAL", async () => {
    const interrupted = both[0];
    const deaf = await start(database.url, { ...unhurried, DATABASE_LISTEN_URL: proxy.url });
    const onBoth = [await follow(deaf), await follow(interrupted)];
    proxy.setMode("hang");
    let ending = true;
    const ends = (async () => {
      while (ending) {
        await database.pool.query(
          `select pg_terminate_backend(pid) from pg_stat_activity
           where application_name = 'keyfleet-listen' and datname = current_database()`,
        );
        await pause(15);
      }
    })();
    const measured = await latenciesMs(6, onBoth).finally(() => {
      ending = false;
    });
    await ends;
    // A tenth by which beats are spread, and the reading itself on a busy machine.
    for (const latency of measured.flat()) expect(latency).toBeLessThan(1.1 * intervalMs + 500);
    // What was lost was lost: one that hears is told at once.
    expect(Math.max(...(measured[0] ?? []))).toBeGreaterThan(100);
  });

  test("control: where they arrive, nobody waits for the interval", async () => {
    const stream = await follow(await start(database.url, { FLEET_SYNC_INTERVAL: "10s" }));
    const [measured = []] = await latenciesMs(5, [stream]);
    expect(Math.max(...measured)).toBeLessThan(1000);
  });
});

describe("where the log may have gone back in time", () => {
  const epochOf = async ({ url }: TestInstance) => (await readSnapshot(url)).snapshot.cursor.split(":")[0];
  const numberOf = (cursor: string | undefined) => Number(cursor?.split(":")[1]);

  async function bothWithThreeRevocations() {
    const lastNumber = async () => (await readLog(database.pool)).at(-1)?.number ?? 0;
    let { snapshot } = await readSnapshot(both[0].url);
    await eventually(async () => {
      ({ snapshot } = await readSnapshot(both[0].url));
      return numberOf(snapshot.cursor) >= (await lastNumber());
    });
    const earlier = snapshot.events.map(({ id }) => id);
    const ids = [...earlier, ...(await revokeIds(database.pool, 3))];
    const connected = await Promise.all(both.map(follow));
    await eventually(() => connected.every((stream) => arrivalOf(stream, ids.at(-1) ?? "") !== undefined));
    const lastEventId = connected[0]?.events.findLast(({ type }) => type === "revocation")?.id;
    return { ids, connected, lastEventId };
  }

  /** Streams ended, and a consumer that resumes at either instance hears all that is unexpired under new numbers. */
  async function expectNewEpoch(
    { connected, lastEventId }: Awaited<ReturnType<typeof bothWithThreeRevocations>>,
    unexpired: readonly string[],
  ): Promise<void> {
    const [oldEpoch] = lastEventId?.split(":") ?? [];
    expect(await Promise.all(connected.map(({ over }) => over))).toEqual(["ended", "ended"]);
    await eventually(async () => (await epochOf(both[0])) === (await epochOf(both[1])));
    expect(await epochOf(both[0])).not.toBe(oldEpoch);
    for (const { url } of both) {
      const resumed = await openStream(url, { lastEventId });
      streams.push(resumed);
      await eventually(() => resumed.events.some(({ type }) => type === "ready"));
      const heard = () =>
        resumed.events.filter(({ type }) => type === "revocation").map((event) => revocationOf(event).id);
      // The latest the other may have heard of before.
      await eventually(() => heard().length >= unexpired.length);
      expect(heard()).toEqual(unexpired);
      expect((await readSnapshot(url, `?after=${lastEventId}`)).status).toBe(410);
      const [next = ""] = await revokeIds(database.pool, 1);
      await eventually(() => arrivalOf(resumed, next) !== undefined);
      unexpired = [...unexpired, next];
      // A number that was given out is never given again.
      const id = resumed.events.findLast(({ type }) => type === "revocation")?.id;
      expect(numberOf(id)).toBeGreaterThan(numberOf(lastEventId));
    }
  }

  test("because its numbers did, another epoch begins and consumers start from the whole", async () => {
    const fleet = await bothWithThreeRevocations();
    const last = numberOf(fleet.lastEventId);
    await database.pool.query(
      `begin; delete from keyfleet.revocations where number > ${last - 2};
       update keyfleet.fleet_state set revocation_number = ${last - 2}; commit`,
    );
    await expectNewEpoch(fleet, fleet.ids.slice(0, -2));
  });

  test("because the database is another cluster, another epoch begins and consumers start from the whole", async () => {
    const fleet = await bothWithThreeRevocations();
    await database.pool.query("update keyfleet.fleet_state set cluster_identity = 'another'");
    // Nobody comes to another cluster but over new connections.
    await database.pool.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and application_name = 'keyfleet'`,
    );
    await expectNewEpoch(fleet, fleet.ids);
  });

  test("because nobody was alive to see, another epoch begins; it does not with each instance that joins", async () => {
    const own = await freshDatabase();
    try {
      const first = await start(own.url);
      const epoch = await epochOf(first);
      const second = await start(own.url);
      expect(await epochOf(second)).toBe(epoch);
      await Promise.all([first.stop("SIGTERM"), second.stop("SIGTERM")]);
      expect(await epochOf(await start(own.url))).not.toBe(epoch);
    } finally {
      await Promise.all(instances.map((instance) => instance.stop("SIGKILL")));
      await own.drop();
    }
  });
});
