import { connect, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, type Settings, startInstance, type TestInstance } from "../support/instance.ts";
import {
  openStream,
  readSnapshot,
  revocationOf,
  type StreamConnection,
  type StreamEvent,
  type StreamOptions,
} from "../support/revocation-stream.ts";
import { revokeIds } from "../support/revocations.ts";

let database: TestDatabase;
/** With the defaults. */
let instance: TestInstance;
/** Takes three consumers, and takes its time to stop. */
let small: TestInstance;
const streams: StreamConnection[] = [];
const sockets: Socket[] = [];

beforeAll(async () => {
  database = await freshDatabase();
  const start = (settings: Settings) => startInstance({ databaseUrl: database.url, settings });
  [instance, small] = await Promise.all([start({}), start({ STREAM_LIMIT: "3", SHUTDOWN_DRAIN: "2s" })]);
});
afterEach(async () => {
  for (const stream of streams.splice(0)) stream.close();
  for (const socket of sockets.splice(0)) socket.destroy();
  await eventuallyMetric(async () => (await consumersOf(instance)) === 0);
});
afterAll(async () => {
  await Promise.all([instance, small].map((one) => one.stop("SIGKILL")));
  await database.drop();
});

async function open(url: string, options: StreamOptions = {}): Promise<StreamConnection> {
  const stream = await openStream(url, options);
  streams.push(stream);
  return stream;
}

/** Asks for the stream, after what there is already or from the beginning, and never reads a byte of the answer. */
async function openAndNeverRead(url: string, fromTheBeginning = false): Promise<Socket> {
  const cursor = fromTheBeginning ? "" : (await readSnapshot(url)).snapshot.cursor;
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.pause();
  socket.on("error", () => undefined);
  sockets.push(socket);
  socket.write(`GET /revocations/stream HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: ${cursor}\r\n\r\n`);
  return socket;
}

/** Asks less often than `eventually` by itself: to tell all metrics costs milliseconds. */
const eventuallyMetric = (condition: () => Promise<boolean>) => eventually(condition, 15_000, 100);

async function expectRefused(stream: StreamConnection): Promise<void> {
  await stream.over;
  expect(stream.status).toBe(503);
  expect(stream.headers["retry-after"]).toBe("1");
  expect(JSON.parse(stream.text())).toMatchObject({ error: "temporarily_unavailable" });
}

const consumersOf = (of: TestInstance) => readMetric(of, "keyfleet_stream_consumers");
const dropsOf = (of: TestInstance) => readMetric(of, "keyfleet_stream_drops_total");
const entriesOf = (of: TestInstance) => readMetric(of, "keyfleet_revocation_entries");

test("STREAM_LIMIT consumers are served, the next one is told to poll, until one leaves", async () => {
  const { url } = small;
  const served = [await open(url), await open(url), await open(url)];
  expect(served.map(({ status }) => status)).toEqual([200, 200, 200]);
  await expectRefused(await open(url, { localAddress: "127.0.0.2" }));
  expect((await readSnapshot(url)).status).toBe(200);
  served[0]?.close();
  await eventually(async () => (await open(url)).status === 200);
});

test("SIGTERM ends the streams as HTTP does, takes no more, and is not held up by them", async () => {
  const own = small;
  await eventuallyMetric(async () => (await consumersOf(own)) === 0);
  const served = await Promise.all(Array.from({ length: 3 }, () => open(own.url)));
  const beganAtMs = performance.now();
  const stopped = own.stop("SIGTERM");
  expect(await Promise.all(served.map(({ over }) => over))).toEqual(["ended", "ended", "ended"]);
  expect(performance.now() - beganAtMs).toBeLessThan(1500);
  await expectRefused(await open(own.url));
  expect((await fetch(`${own.url}/readyz`)).status).toBe(503);
  expect((await readSnapshot(own.url)).status).toBe(200);
  expect(await stopped).toBe(0);
  expect(performance.now() - beganAtMs).toBeLessThan(7000);
});

test("50 consumers of one address are served, and others all the same", async () => {
  const { url } = instance;
  const served = await Promise.all(Array.from({ length: 50 }, () => open(url)));
  expect(new Set(served.map(({ status }) => status))).toEqual(new Set([200]));
  await expectRefused(await open(url));
  expect((await open(url, { localAddress: "127.0.0.2" })).status).toBe(200);
});

test("a consumer that does not read is cut off, and nothing is kept for it; one that reads misses nothing", async () => {
  const own = instance;
  const dropsBefore = await dropsOf(own);
  const externalBytes = () => readMetric(own, "nodejs_external_memory_bytes");
  const beforeBytes = await externalBytes();
  const stalled = await openAndNeverRead(own.url);
  let received = 0;
  const reading = await open(own.url, {
    onEvent: ({ type }) => {
      if (type === "revocation") received += 1;
    },
  });
  await eventuallyMetric(async () => (await consumersOf(own)) === 2);

  // About 15 MB in all, of which the kernel takes some on behalf of the one that does not read.
  const [batches, batchSize] = [5, 16_000];
  for (let batch = 1; batch <= batches; batch += 1) {
    await revokeIds(database.pool, batchSize, "3 seconds");
    await eventually(() => received === batch * batchSize, 15_000);
  }
  await eventuallyMetric(async () => (await dropsOf(own)) === dropsBefore + 1);
  expect(await consumersOf(own)).toBe(1);
  expect(reading.events.filter(({ type }) => type === "revocation").length).toBe(batches * batchSize);
  await eventuallyMetric(async () => (await externalBytes()) < beforeBytes + 8e6);

  await eventuallyMetric(async () => (await entriesOf(own)) === 0);

  // What it would have got, had it begun to read now.
  let unreadBytes = 0;
  const over = new Promise((resolve) => stalled.once("close", resolve));
  stalled.on("data", (bytes) => {
    unreadBytes += bytes.length;
  });
  stalled.resume();
  await over;
  expect(unreadBytes).toBeLessThan(8e6);
}, 40_000);

test("a new epoch ends all streams, also those that are not read, and does no harm to the instance", async () => {
  const own = instance;
  const [dropsBefore, entriesBefore] = [await dropsOf(own), await entriesOf(own)];
  // One after another, so that every length of what is unread is there when the streams end.
  for (let batch = 0; (await dropsOf(own)) === dropsBefore; batch += 1) {
    if (batch < 40) await openAndNeverRead(own.url);
    await revokeIds(database.pool, 2000);
    await eventually(async () => (await entriesOf(own)) === entriesBefore + (batch + 1) * 2000);
  }
  expect(await consumersOf(own)).toBeGreaterThan(1);
  await database.pool.query("delete from keyfleet.revocations");
  await database.pool.query("update keyfleet.fleet_state set revocation_number = 0");
  await eventuallyMetric(async () => (await consumersOf(own)) === 0);
  expect((await open(own.url)).status).toBe(200);
  expect(own.output()).not.toMatch(/uncaught|ERR_/i);
}, 60_000);

test("consumers with much to catch up cost what they read at a time, not a log each; who does not read it is cut off", async () => {
  const own = instance;
  const [dropsBefore, entriesBefore] = [await dropsOf(own), await entriesOf(own)];
  const [count, batchSize] = [30_000, 10_000];
  for (let sent = 0; sent < count; sent += batchSize) await revokeIds(database.pool, batchSize);
  await eventuallyMetric(async () => (await entriesOf(own)) === entriesBefore + count);
  const memoryBytes = async () =>
    (await readMetric(own, "nodejs_external_memory_bytes")) +
    (await readMetric(own, "nodejs_heap_size_used_bytes"));
  const beforeBytes = await memoryBytes();
  await Promise.all(Array.from({ length: 40 }, () => openAndNeverRead(own.url, true)));
  await eventuallyMetric(async () => (await consumersOf(own)) === 40);
  // Of 6 MB each, about 240 MB in all.
  expect((await memoryBytes()) - beforeBytes).toBeLessThan(60e6);

  const reading = await open(own.url);
  await eventually(() => reading.events.some(({ type }) => type === "revocation"));
  const [last] = await revokeIds(database.pool, 1);
  const latest = () => reading.events.findLast(({ type }) => type === "revocation");
  await eventually(() => revocationOf(latest() as StreamEvent).id === last);
  await eventually(() => reading.events.some(({ type }) => type === "heartbeat"));
  const types = reading.events.map(({ type }) => type);
  const heard = reading.events.filter(({ type }) => type === "revocation");
  const numbers = heard.map(({ id }) => Number(id?.split(":")[1]));
  const [firstNumber = Number.NaN] = numbers;
  expect(numbers).toEqual(heard.map((_, index) => firstNumber + index));
  expect(heard.length).toBe(count + 1);
  expect(revocationOf(heard.at(-1) as StreamEvent).id).toBe(last);
  expect(types.filter((type) => type === "ready")).toHaveLength(1);
  // Before it is ready, no as_of that it could mistake for its own.
  expect(types.indexOf("heartbeat")).toBeGreaterThan(types.indexOf("ready"));

  await eventuallyMetric(async () => (await dropsOf(own)) === dropsBefore + 40);
  expect(await consumersOf(own)).toBe(1);
}, 40_000);
