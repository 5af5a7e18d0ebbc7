import { randomBytes } from "node:crypto";
import { setTimeout as pause, setImmediate } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { decodeProtectedHeader } from "jose";
import { createGarbageCollector } from "../../src/keys/secure-heap.ts";
import { createVerifier, type VerificationError, type Verifier } from "../../src/verifier/index.ts";
import { serves } from "../fleet/revoked-keys.ts";
import { eventuallyAll } from "../fleet/silent-fleet.ts";
import { addAccount } from "../support/accounts.ts";
import { type Balancer, startBalancer } from "../support/balancer.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { amount } from "../support/long-form.ts";
import { percentile } from "../support/percentile.ts";
import { logIn } from "../support/revocations.ts";

const audience = "https://api.example";
const floodTokens = amount(12_000, 100_000);
const settings = { AUDIENCES: audience };

let database: TestDatabase;
let balancer: Balancer;
let instances: TestInstance[];
let verifier: Verifier;
let requests: string[];

beforeAll(async () => {
  requests = [];
  database = await freshDatabase();
  await addAccount(database.url);
  balancer = await startBalancer();
  instances = [await start()];
  verifier = createVerifier({
    issuer: balancer.url,
    audience,
    revocation: { whenStale: "reject" },
    fetch(input, init) {
      requests.push(String(input));
      return fetch(input, init);
    },
  });
  await verifier.ready();
});
afterAll(async () => {
  await verifier.close();
  await Promise.all(instances.map((instance) => instance.stop("SIGKILL")));
  await balancer.close();
  await database.drop();
});

async function start(): Promise<TestInstance> {
  const instance = await startInstance({
    databaseUrl: database.url,
    settings: { ...settings, ISSUER: balancer.url },
  });
  balancer.setTargets([instance.url]);
  return instance;
}

/** The token as it would be with a kid that nobody has. */
function withMadeUpKid(token: string): string {
  const [, claims, signature] = token.split(".");
  const header = { alg: "EdDSA", typ: "at+jwt", kid: randomBytes(32).toString("base64url") };
  return [Buffer.from(JSON.stringify(header)).toString("base64url"), claims, signature].join(".");
}

/** How long each of so many verifications of a good token takes, in milliseconds. */
async function measureMs(token: string, until: () => boolean): Promise<number[]> {
  const durationsMs: number[] = [];
  while (!until()) {
    const beganAtMs = performance.now();
    await verifier.verify(token);
    durationsMs.push(performance.now() - beganAtMs);
    await pause(2);
  }
  return durationsMs;
}

/** Another instance joins, and takes all: how long its key, which is new to the verifier, takes to be found. */
async function findNewKey(): Promise<number> {
  const added = await start();
  instances.push(added);
  const { access_token: token } = await logIn(added.url);
  // The verifier's connections stay where they are.
  const kid = String(decodeProtectedHeader(token).kid);
  await eventuallyAll(instances, (instance) => serves(instance, [kid]));
  const askedAtMs = performance.now();
  for (;;) {
    const isFound = await verifier.verify(token).then(
      () => true,
      () => false,
    );
    const newKeyMs = performance.now() - askedAtMs;
    if (isFound || newKeyMs > 10_000) return newKeyMs;
  }
}

test("a flood of made-up kids costs a few requests, and neither memory nor good tokens nor a truly new key", async () => {
  const collectGarbage = createGarbageCollector();
  const { access_token: token } = await logIn(balancer.url);
  await verifier.verify(token);
  const idleUntilMs = performance.now() + 1000;
  const idleMs = await measureMs(token, () => performance.now() > idleUntilMs);

  collectGarbage();
  const heapBefore = process.memoryUsage().heapUsed;
  requests.length = 0;
  const codes = new Map<string, number>();
  let sent = 0;
  let answered = 0;
  let isSearching = true;
  let isOver = false;
  const beganAtMs = performance.now();
  const flooding = (async () => {
    // On until the new key is found: it is to be found in a flood.
    while (sent < floodTokens || isSearching) {
      // As many as come in on many connections between two turns of the loop.
      for (let count = 0; count < 25; count += 1) {
        sent += 1;
        verifier.verify(withMadeUpKid(token)).catch(({ code }: VerificationError) => {
          codes.set(code, (codes.get(code) ?? 0) + 1);
          answered += 1;
        });
      }
      await setImmediate();
    }
  })();
  const measuring = measureMs(token, () => isOver);
  const newKeyMs = await findNewKey().finally(() => {
    isSearching = false;
  });
  await flooding;
  isOver = true;
  const floodedMs = await measuring;
  const durationS = (performance.now() - beganAtMs) / 1000;
  while (answered < sent) await setImmediate();
  collectGarbage();
  const grownBytes = process.memoryUsage().heapUsed - heapBefore;
  const keyRequests = requests.filter((url) => url.includes("/.well-known/jwks"));
  const [idleP99, floodedP99] = [percentile(idleMs, 99), percentile(floodedMs, 99)];
  console.log(
    `${sent} unknown kids in ${durationS.toFixed(1)} s: ${keyRequests.length} requests for keys, ` +
      `${[...codes].map(([code, count]) => `${count} ${code}`).join(", ")}; ` +
      `good tokens p99 ${floodedP99.toFixed(2)} ms, ${idleP99.toFixed(2)} ms before; ` +
      `heap ${(grownBytes / 1e6).toFixed(1)} MB larger afterwards; a new key was found in ${newKeyMs.toFixed(0)} ms`,
  );
  // Five at once, five a second, and all keys once a second.
  expect(keyRequests.length).toBeLessThanOrEqual(5 + 6 * (durationS + 1));
  expect(newKeyMs).toBeLessThan(2000);
  // Less than it takes to remember a kid each.
  expect(grownBytes).toBeLessThan(100 * sent);
}, 60_000);
