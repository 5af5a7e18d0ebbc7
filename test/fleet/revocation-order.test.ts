import { setTimeout as pause } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import type pg from "pg";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { addAccount, eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { amount } from "../support/long-form.ts";
import { type Consumer, revocationOf, startConsumer } from "../support/revocation-stream.ts";
import { endSession, insertSessions, logIn, logOut, readLog, revokeToken } from "../support/revocations.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

let database: TestDatabase;
let network: TcpProxy;
let instances: TestInstance[];
let consumers: Consumer[];
let longRunning: pg.PoolClient | undefined;
let revoking: boolean;

beforeEach(async () => {
  instances = [];
  consumers = [];
  longRunning = undefined;
  revoking = true;
  database = await freshDatabase();
  network = await startTcpProxy(database.url);
  network.setDelay(() => Math.random() * 20);
});
afterEach(async () => {
  revoking = false;
  longRunning?.release(true);
  for (const consumer of consumers) consumer.close();
  await Promise.all(instances.map((instance) => instance.stop("SIGKILL")));
  await network.close();
  await database.drop();
});

/** Of which a quarter are made over HTTP, and a tenth slowly. */
const total = amount(200, 1000);

const oneOf = <Item>(items: readonly Item[]) => items[Math.floor(Math.random() * items.length)] as Item;

/** Has one commit in ten wait up to 30 ms after everything in it was done. */
async function delayCommits(table: string): Promise<void> {
  await database.pool.query(
    `create or replace function public.wait_at_commit() returns trigger language plpgsql as $$
     begin
       if random() < 0.1 then perform pg_sleep(random() * 0.03); end if;
       return null;
     end $$;
     create constraint trigger wait_at_commit after insert on ${table}
       deferrable initially deferred for each row execute function public.wait_at_commit()`,
  );
}

/** Runs all, so many at a time, in random order. */
async function runAll(work: (() => Promise<unknown>)[], atOnce: number): Promise<void> {
  const waiting = work
    .map((item) => ({ item, rank: Math.random() }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ item }) => item);
  const worker = async () => {
    for (let item = waiting.pop(); item !== undefined; item = waiting.pop()) await item();
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

/** A transaction that wrote before it revokes, and whose commit comes late. */
async function endSessionSlowly(sessionId: string): Promise<void> {
  const client = await database.pool.connect();
  try {
    await client.query("begin");
    await client.query("insert into public.unrelated values (1)");
    await pause(Math.random() * 50);
    await endSession(client, sessionId);
    await pause(Math.random() * 5);
    await client.query("commit");
  } finally {
    client.release();
  }
}

/** The third instance is far from the database, and so always behind the others. */
async function startThree(): Promise<void> {
  const settings = { ISSUER: "http://localhost", LOGIN_ATTEMPTS: "10000", LOG_LEVEL: "warn" };
  instances = await Promise.all(
    [database.url, database.url, network.url].map((databaseUrl) => startInstance({ databaseUrl, settings })),
  );
}

async function logInMany(count: number): Promise<readonly TokenResponse[]> {
  const tokens: TokenResponse[] = [];
  const urls = instances.slice(0, 2).map((instance) => instance.url);
  await runAll(
    Array.from({ length: count }, () => async () => tokens.push(await logIn(oneOf(urls)))),
    10,
  );
  return tokens;
}

test(`${total} concurrent revocations reach every consumer once and in one order, however late commits come and wherever it moves`, async () => {
  await addAccount(database.url);
  await database.pool.query("create table public.unrelated (value int)");
  await startThree();
  const tokens = await logInMany(total / 8);
  const sessions = await insertSessions(database.pool, (3 * total) / 4);
  await delayCommits("keyfleet.revocations");
  // Where an order by snapshots would stall until the end.
  longRunning = await database.pool.connect();
  await longRunning.query("begin; insert into public.unrelated values (1)");

  const urls = instances.map((instance) => instance.url);
  const seen: { number: number; id: string }[][] = [];
  consumers = Array.from({ length: 20 }, (_, index) => {
    const events: { number: number; id: string }[] = [];
    seen.push(events);
    return startConsumer({
      nextUrl: (from) =>
        from === undefined ? (urls[index % 3] as string) : oneOf(urls.filter((u) => u !== from)),
      onEvent(event) {
        if (event.type !== "revocation") return;
        events.push({ number: Number(event.id?.split(":")[1]), id: revocationOf(event).id });
      },
    });
  });
  const unrest = consumers.map(async (consumer) => {
    while (revoking) {
      await pause(20 + Math.random() * 100);
      consumer.move();
    }
  });

  const slow = sessions.slice(0, total / 10).map((id) => () => endSessionSlowly(id));
  const plain = sessions.slice(total / 10).map((id) => () => endSession(database.pool, id));
  // In this order: a token of an ended session needs no revocation of its own.
  const overHttp = tokens.map((token) => async () => {
    await revokeToken(oneOf(urls), token.access_token);
    await logOut(oneOf(urls), token.refresh_token);
  });
  await Promise.all([runAll(slow, 2), runAll(plain, 3), runAll(overHttp, 40)]);
  revoking = false;
  await Promise.all(unrest);

  const log = await readLog(database.pool);
  expect(log.map(({ number }) => number)).toEqual(Array.from({ length: total }, (_, index) => index + 1));
  await eventually(() => seen.every((events) => (events.at(-1)?.number ?? 0) >= total), 20_000);
  for (const events of seen) expect(events).toEqual(log);
  for (const consumer of consumers) expect(consumer.moves()).toBeGreaterThan(5);
}, 90_000);

test("control: a reader that follows a sequence loses some of what is committed late", async () => {
  await database.pool.query("create table public.naive (id bigserial primary key, revoked text)");
  await delayCommits("public.naive");
  const seen: number[] = [];
  let cursor = 0;
  const read = async () => {
    const { rows } = await database.pool.query<{ id: number }>(
      "select id::int from public.naive where id > $1 order by id",
      [cursor],
    );
    seen.push(...rows.map(({ id }) => id));
    cursor = seen.at(-1) ?? 0;
  };
  const reader = (async () => {
    while (revoking) await read();
  })();
  const insert = () => database.pool.query("insert into public.naive (revoked) values ('session')");
  await runAll(
    Array.from({ length: total }, () => insert),
    4,
  );
  revoking = false;
  await reader;
  await read();
  const { rows } = await database.pool.query("select from public.naive");
  expect(rows).toHaveLength(total);
  expect(new Set(seen).size).toBe(seen.length);
  expect(seen.length).toBeLessThan(total);
}, 30_000);
