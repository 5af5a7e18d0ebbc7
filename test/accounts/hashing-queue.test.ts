import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { type RawAnswer, sendRequest } from "../http/raw-request.ts";
import { expectRefusal } from "../http/refusal.ts";
import { addAccount, alice, eventually, login } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, startInstance, type TestInstance } from "../support/instance.ts";
import { median } from "./rank-sum.ts";

/** One hash takes a tenth of a second or more, and three may be under way or wait. */
const settings = { BCRYPT_COST: "11", HASH_WORKERS: "1", HASH_QUEUE: "2", LOGIN_ATTEMPTS: "5" };
const flood = 40;

let database: TestDatabase;
let instance: TestInstance;

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  instance = await startInstance({ databaseUrl: database.url, settings });
  // Replaces the hash of the least cost.
  await login(instance.url);
});

afterAll(async () => {
  await instance.stop();
  await database.drop();
});

async function timed<Result>(work: () => Promise<Result>): Promise<{ result: Result; ms: number }> {
  const startedAtMs = performance.now();
  return { result: await work(), ms: performance.now() - startedAtMs };
}

function post(username: string): Promise<RawAnswer> {
  return sendRequest(instance.url, "/login", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ username, password: alice.password }),
  });
}

/** Of names of their own each, so that nothing but the queue stands in their way. */
const floodOf = (name: string) =>
  Promise.all(Array.from({ length: flood }, (_, index) => timed(() => post(`${name} ${index}`))));

test("logins beyond the queue are refused at once, to be tried again in a second", async () => {
  const answers = await floodOf("beyond");
  const refused = answers.filter(({ result }) => result.status === 503);
  const judged = answers.filter(({ result }) => result.status === 401);
  expect(refused.length + judged.length).toBe(flood);
  expect(judged.length).toBeGreaterThanOrEqual(3);
  expect(refused.length).toBeGreaterThan(flood / 2);
  for (const { result } of refused) {
    expectRefusal(result, 503, "temporarily_unavailable");
    expect(result.headers["retry-after"]).toBe("1");
  }
  // Who is refused has not waited for those who are judged.
  expect(median(refused.map(({ ms }) => ms))).toBeLessThan(Math.max(...judged.map(({ ms }) => ms)));
});

test("the JWKS is answered as fast as ever while passwords are hashed", async () => {
  let hashing = true;
  const logins = floodOf("meanwhile").finally(() => {
    hashing = false;
  });
  const latenciesMs: number[] = [];
  while (hashing) {
    const { ms, result } = await timed(() => sendRequest(instance.url, "/.well-known/jwks.json"));
    expect(result.status).toBe(200);
    latenciesMs.push(ms);
    await pause(5);
  }
  const longestMs = Math.max(...(await logins).map(({ ms }) => ms));
  // Hashed on the main thread, three hashes would let one or two answers through in all that time.
  expect(latenciesMs.length).toBeGreaterThan(10);
  expect(median(latenciesMs)).toBeLessThan(longestMs / 10);
});

test("a login that found no place in the queue was no guess: its name stays open", async () => {
  const answers = await Promise.all(Array.from({ length: flood }, () => post(alice.username)));
  expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThan(0);
  expect((await post(alice.username)).status).toBe(200);
});

test("the length of the queue is shown while it fills, and after it has emptied", async () => {
  const length = () => readMetric(instance, "keyfleet_password_queue_length");
  const logins = floodOf("shown");
  await eventually(async () => (await length()) > 0);
  await logins;
  expect(await length()).toBe(0);
});
