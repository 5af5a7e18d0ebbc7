import { setTimeout as pause } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { createVerifier, type VerificationError, type Verifier } from "../../src/verifier/index.ts";
import { addAccount, eventually } from "../support/accounts.ts";
import { type Balancer, startBalancer } from "../support/balancer.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { amount } from "../support/long-form.ts";
import { percentile } from "../support/percentile.ts";
import { logIn, logOut } from "../support/revocations.ts";

const audience = "https://api.example";

let database: TestDatabase;
let balancer: Balancer;
/** Those that are up. */
let instances: TestInstance[] = [];
const verifiers: Verifier[] = [];

beforeAll(async () => {
  database = await freshDatabase();
  balancer = await startBalancer();
  await addAccount(database.url);
  await Promise.all([start(), start(), start()]);
}, 30_000);
afterEach(async () => {
  await Promise.all(verifiers.splice(0).map((verifier) => verifier.close()));
});
afterAll(async () => {
  await Promise.all(instances.map((instance) => instance.stop("SIGKILL")));
  await balancer.close();
  await database.drop();
});

async function start(): Promise<TestInstance> {
  // The interval of production: what is measured is not how often the fleet polls.
  const settings = {
    ISSUER: balancer.url,
    AUDIENCES: audience,
    FLEET_SYNC_INTERVAL: "500ms",
    LOGIN_ATTEMPTS: "10000",
  };
  const instance = await startInstance({ databaseUrl: database.url, settings });
  instances.push(instance);
  balancer.setTargets(instances.map(({ url }) => url));
  return instance;
}

async function createReadyVerifier(whenStale: "reject" | "accept" = "reject"): Promise<Verifier> {
  const revocation = { whenStale, maxStaleness: "5s" };
  const verifier = createVerifier({ issuer: balancer.url, audience, revocation });
  verifiers.push(verifier);
  await verifier.ready();
  return verifier;
}

async function codeOf(verifier: Verifier, token: string): Promise<string> {
  return verifier.verify(token).then(
    () => "accepted",
    (error: unknown) => (error as VerificationError).code,
  );
}

/** Milliseconds until the verifier refuses, by the logout; it is asked without a break. */
async function refusedAfterMs(verifier: Verifier, token: string, sinceMs: number): Promise<number> {
  for (;;) {
    const code = await codeOf(verifier, token);
    if (code === "token_revoked") return performance.now() - sinceMs;
    expect(code).toBe("accepted");
    if (performance.now() - sinceMs > 5000) throw new Error("the token was never refused");
    await pause(1);
  }
}

async function logOutAndMeasure(at: TestInstance): Promise<number[]> {
  const { access_token: token, refresh_token: refreshToken } = await logIn(at.url);
  expect(await Promise.all(verifiers.map((verifier) => codeOf(verifier, token)))).toEqual(
    verifiers.map(() => "accepted"),
  );
  await logOut(at.url, refreshToken);
  const answeredAtMs = performance.now();
  return Promise.all(verifiers.map((verifier) => refusedAfterMs(verifier, token, answeredAtMs)));
}

test("a session that ended while a verifier was cut off is refused as soon as it is connected again", async () => {
  const [instance] = instances as [TestInstance];
  const verifier = await createReadyVerifier("accept");
  const { access_token: token, refresh_token: refreshToken } = await logIn(instance.url);
  expect(await codeOf(verifier, token)).toBe("accepted");
  await balancer.close();
  await logOut(instance.url, refreshToken);
  expect(await codeOf(verifier, token)).toBe("accepted");
  balancer = await startBalancer(Number(new URL(balancer.url).port));
  balancer.setTargets(instances.map(({ url }) => url));
  await eventually(async () => (await codeOf(verifier, token)) === "token_revoked");
}, 30_000);

test("a logout at one instance is a refusal at ten verifiers within a second, also when theirs has just died", async () => {
  await Promise.all(Array.from({ length: 10 }, () => createReadyVerifier()));
  const steadyMs: number[] = [];
  for (let round = 0; round < amount(12, 30); round += 1) {
    const at = instances[round % instances.length];
    if (at !== undefined) steadyMs.push(...(await logOutAndMeasure(at)));
  }
  const careless = createVerifier({ issuer: balancer.url, audience, revocation: null });
  const { access_token: token, refresh_token: refreshToken } = await logIn(balancer.url);
  await careless.verify(token);
  await logOut(balancer.url, refreshToken);
  await Promise.all(verifiers.map((verifier) => refusedAfterMs(verifier, token, performance.now())));
  // The control: by itself a signed token is good until its end.
  await careless.verify(token);

  const [dead, alive] = instances as [TestInstance, TestInstance];
  dead.process.kill("SIGKILL");
  instances = instances.filter((instance) => instance !== dead);
  const afterDeathMs: number[] = [];
  for (let round = 0; round < amount(6, 10); round += 1)
    afterDeathMs.push(...(await logOutAndMeasure(alive)));
  const words = (valuesMs: readonly number[]) =>
    [50, 99, 100].map((percent) => `p${percent} ${percentile(valuesMs, percent).toFixed(1)}`).join(", ");
  console.log(
    `logout to refusal at 10 verifiers of 3 instances, ms: ${words(steadyMs)}; ` +
      `from the death of one on: ${words(afterDeathMs)}`,
  );
  expect(Math.max(...steadyMs, ...afterDeathMs)).toBeLessThan(1000);
}, 60_000);

test("with all instances gone tokens go on verifying until maxStaleness, then as the setting says; back up, it catches up", async () => {
  const gone = instances;
  const [rejecting, accepting] = [await createReadyVerifier(), await createReadyVerifier("accept")];
  const { access_token: token, refresh_token: refreshToken } = await logIn(gone[0]?.url ?? "");
  const codes = () => Promise.all([rejecting, accepting].map((verifier) => codeOf(verifier, token)));
  expect(await codes()).toEqual(["accepted", "accepted"]);

  await Promise.all(gone.map((instance) => instance.stop("SIGKILL")));
  instances = [];
  balancer.setTargets([]);
  const goneAtMs = performance.now();
  let staleAfterMs = Number.NaN;
  await eventually(async () => {
    const [rejected, accepted] = await codes();
    expect(accepted).toBe("accepted");
    if (rejected === "accepted") return false;
    expect(rejected).toBe("revocation_stale");
    staleAfterMs = performance.now() - goneAtMs;
    return true;
  }, 15_000);
  // as_of is up to a sync interval and a heartbeat old when the connection breaks, and in whole seconds.
  expect(staleAfterMs).toBeGreaterThan(2000);
  expect(staleAfterMs).toBeLessThan(5500);

  const back = await start();
  await eventually(async () => (await codes()).every((code) => code === "accepted"), 15_000);
  await logOut(back.url, refreshToken);
  await eventually(async () => (await codes()).every((code) => code === "token_revoked"));
}, 60_000);
