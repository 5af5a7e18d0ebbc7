import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from "jose";
import { addAccount, eventually, login } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";

/** Between the database's clock and this process's. */
const toleranceSeconds = 0.05;

let database: TestDatabase;
let killed: TestInstance;
let stopped: TestInstance;
let others: TestInstance[];

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  // A period far longer than the test, so that only the end of an instance ends a key.
  const settings = {
    ISSUER: "http://localhost",
    KEY_ROTATION_SCHEDULE: "0 0 1 1 *",
    ACCESS_TOKEN_TTL: "3s",
    VERIFY_GRACE: "1s",
  };
  const start = () => startInstance({ databaseUrl: database.url, settings });
  [killed, stopped, ...others] = await Promise.all([start(), start(), start(), start()]);
}, 20_000);
afterAll(async () => {
  await Promise.all([killed, stopped, ...others].map((instance) => instance.stop()));
  await database.drop();
});

async function servedKids(instance: TestInstance): Promise<string[]> {
  const response = await fetch(`${instance.url}/.well-known/jwks.json`);
  return ((await response.json()) as { keys: { kid: string }[] }).keys.map(({ kid }) => kid);
}

async function verifies(token: string, through: TestInstance): Promise<boolean> {
  const keys = createRemoteJWKSet(new URL(`${through.url}/.well-known/jwks.json`));
  return jwtVerify(token, keys, { issuer: "http://localhost" }).then(
    () => true,
    () => false,
  );
}

const nowSeconds = () => (performance.timeOrigin + performance.now()) / 1000;

test("a token of an instance that was killed verifies everywhere until it expires", async () => {
  const { access_token } = await login(killed.url);
  const { exp = 0 } = decodeJwt(access_token);
  await killed.stop("SIGKILL");
  while (nowSeconds() < exp - 0.3) {
    for (const other of others) {
      const isVerified = await verifies(access_token, other);
      expect(isVerified || nowSeconds() >= exp - 0.3).toBe(true);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const { kid = "" } = decodeProtectedHeader(access_token);
  for (const other of others) expect(await servedKids(other)).toContain(kid);
});

test("the keys of a stopped instance leave every JWKS at their shortened time, and not before", async () => {
  const { access_token } = await login(stopped.url);
  const { kid = "" } = decodeProtectedHeader(access_token);
  const before = (await servedKids(stopped)).length;
  const stoppingAtSeconds = nowSeconds();
  expect(await stopped.stop("SIGTERM")).toBe(0);
  const stoppedAtSeconds = nowSeconds();
  for (const other of others) {
    await eventually(async () => (await servedKids(other)).length === before - 1);
    expect(await servedKids(other)).toContain(kid);
  }
  const { rows } = await database.pool.query<{ ends: number; ends_as_published: number }>(
    `select extract(epoch from keyfleet.key_expiry(k))::float8 as ends,
            extract(epoch from expires_at)::float8 as ends_as_published
     from keyfleet.signing_keys k where kid = $1`,
    [kid],
  );
  const { ends = 0, ends_as_published = 0 } = rows[0] ?? {};
  // The lifetime of a token and the grace after the retirement, which came before the end of the process.
  expect(ends).toBeGreaterThan(stoppingAtSeconds + 4 - toleranceSeconds);
  expect(ends).toBeLessThan(stoppedAtSeconds + 4 + toleranceSeconds);
  expect(ends).toBeLessThan(ends_as_published);
  await eventually(async () => {
    const askedAtSeconds = nowSeconds();
    const gone = !(await servedKids(others[0] as TestInstance)).includes(kid);
    if (!gone) expect(askedAtSeconds).toBeLessThan(ends + toleranceSeconds);
    return gone;
  });
  expect(nowSeconds()).toBeGreaterThan(ends - toleranceSeconds);
  for (const other of others) {
    await eventually(async () => (await servedKids(other)).length === before - 2, 1000);
  }
});
