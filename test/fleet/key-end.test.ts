import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from "jose";
import { addAccount, eventually, login } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";

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
      const stillValid = nowSeconds() < exp - 0.3;
      expect((await verifies(access_token, other)) || !stillValid).toBe(true);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const { kid = "" } = decodeProtectedHeader(access_token);
  for (const other of others) expect(await servedKids(other)).toContain(kid);
});

test("the keys of a stopped instance leave every JWKS at their shortened time, and not before", async () => {
  const { access_token } = await login(stopped.url);
  const { kid = "" } = decodeProtectedHeader(access_token);
  const { exp = 0 } = decodeJwt(access_token);
  const before = (await servedKids(stopped)).length;
  expect(await stopped.stop("SIGTERM")).toBe(0);
  const stoppedAtSeconds = nowSeconds();
  for (const other of others) {
    await eventually(async () => (await servedKids(other)).length === before - 1);
    expect(await servedKids(other)).toContain(kid);
  }
  await eventually(async () => {
    const gone = !(await servedKids(others[0] as TestInstance)).includes(kid);
    if (!gone) expect(nowSeconds()).toBeLessThan(stoppedAtSeconds + 4.5);
    return gone;
  });
  expect(nowSeconds()).toBeGreaterThan(exp);
  for (const other of others) {
    await eventually(async () => (await servedKids(other)).length === before - 2, 1000);
  }
});
