import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { addAccount, eventually, login, postLogin } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, startInstance, type TestInstance } from "../support/instance.ts";
import { type ProxyMode, startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

let database: TestDatabase;
let proxy: TcpProxy;
let instance: TestInstance;

async function setUp(): Promise<void> {
  database = await freshDatabase();
  await addAccount(database.url);
  proxy = await startTcpProxy(database.url);
}
async function tearDown(): Promise<void> {
  await instance.stop("SIGKILL");
  await proxy.close();
  await database.drop();
}
async function start(settings = {}, untilReady = true): Promise<void> {
  instance = await startInstance({ databaseUrl: proxy.url, settings, untilReady });
}
const jwks = async () => (await fetch(`${instance.url}/.well-known/jwks.json`)).text();
const readings = (outcome: "done" | "failed") =>
  readMetric(instance, `keyfleet_fleet_syncs_total{outcome="${outcome}"}`);
const status = async (path: string) => (await fetch(instance.url + path)).status;

describe("an instance that was there before", () => {
  beforeAll(async () => {
    await setUp();
    await start({ FLEET_SYNC_INTERVAL: "200ms" });
  });
  afterEach(() => proxy.setMode("pass"));
  afterAll(tearDown);

  test.each<[string, ProxyMode]>([
    ["refuses connections", "refuse"],
    ["does not answer", "hang"],
  ])(
    "while the database %s, login answers 503 within two seconds, the JWKS goes on, and all comes back by itself",
    async (_, mode) => {
      await login(instance.url);
      const before = await jwks();
      const failedBefore = await readings("failed");

      proxy.setMode(mode);
      for (let attempt = 0; attempt < 3; attempt += 1) {
        const startedAtMs = performance.now();
        const refused = await postLogin(instance.url);
        expect(performance.now() - startedAtMs).toBeLessThan(2000);
        expect(refused.status).toBe(503);
        expect(refused.headers.get("retry-after")).toBe("1");
        expect(await refused.json()).toMatchObject({ error: "temporarily_unavailable" });
      }
      expect(await jwks()).toBe(before);
      expect(await status("/readyz")).toBe(200);
      await eventually(async () => (await status("/readyz/issue")) === 503);
      await eventually(async () => (await readings("failed")) > failedBefore);

      const doneBefore = await readings("done");
      proxy.setMode("pass");
      await eventually(async () => (await status("/readyz/issue")) === 200);
      await login(instance.url);
      await eventually(async () => (await readings("done")) > doneBefore);
      await eventually(async () => (await readMetric(instance, "keyfleet_listening")) === 1, 15_000);
    },
    60_000,
  );

  test("connections that the server ends are replaced, the listening one too, and none is leaked", async () => {
    const connections = async () => {
      const { rows } = await database.pool.query<{ application_name: string }>(
        `select application_name from pg_stat_activity
         where datname = current_database() and application_name like 'keyfleet%'`,
      );
      return rows.map((row) => row.application_name);
    };
    const broken = () => readMetric(instance, "keyfleet_database_errors_total");
    const brokenBefore = await broken();
    for (let round = 0; round < 5; round += 1) {
      await eventually(async () => (await connections()).includes("keyfleet-listen"));
      await database.pool.query(
        `select pg_terminate_backend(pid, 5000) from pg_stat_activity
         where datname = current_database() and application_name like 'keyfleet%'`,
      );
    }
    await eventually(async () => (await readMetric(instance, "keyfleet_listening")) === 1);
    expect(await broken()).toBeGreaterThan(brokenBefore);
    await eventually(async () => (await status("/readyz/issue")) === 200);
    // Some may be told to come again: so many connections are made at once.
    const logIn = () => eventually(async () => (await postLogin(instance.url)).status === 200);
    await Promise.all(Array.from({ length: 30 }, logIn));
    const open = await connections();
    expect(open.filter((name) => name === "keyfleet-listen")).toHaveLength(1);
    expect(open.length).toBeLessThanOrEqual(11);
  }, 30_000);
});

describe("an instance of its own", () => {
  beforeEach(setUp);
  afterEach(tearDown);

  test("a login whose password is being hashed when the database stops answering is told so within two seconds", async () => {
    await start({ BCRYPT_COST: "12" });
    // Replaces the hash of a lower cost.
    await login(instance.url);
    const attemptsUnderWay = async () => {
      const { rows } = await database.pool.query("select from keyfleet.login_attempts where points > 0");
      return rows.length;
    };
    await eventually(async () => (await attemptsUnderWay()) === 0);

    const startedAtMs = performance.now();
    const answer = postLogin(instance.url);
    await eventually(async () => (await attemptsUnderWay()) === 3);
    proxy.setMode("hang");
    expect((await answer).status).toBe(503);
    expect(performance.now() - startedAtMs).toBeLessThan(2000);
  });

  test("an instance that starts without a database becomes ready when it is there", async () => {
    proxy.setMode("refuse");
    await start({}, false);
    expect(await status("/healthz")).toBe(200);
    expect(await status("/readyz")).toBe(503);
    expect(await status("/.well-known/jwks.json")).toBe(503);
    proxy.setMode("pass");
    await eventually(async () => (await status("/readyz/issue")) === 200);
    expect(await status("/.well-known/jwks.json")).toBe(200);
    await login(instance.url);
  });

  test("during an outage keys leave the JWKS exactly at their expiry", async () => {
    await start({
      KEY_ROTATION_SCHEDULE: "*/2 * * * * *",
      ACCESS_TOKEN_TTL: "1s",
      VERIFY_GRACE: "1s",
    });
    const keys = async () => JSON.parse(await jwks()).keys as { kid: string; exp: number }[];
    await eventually(async () => (await keys()).length >= 2);
    proxy.setMode("refuse");
    const served = await keys();
    const lastExpiry = Math.max(...served.map(({ exp }) => exp));
    await eventually(async () => (await keys()).length < served.length);
    for (const { exp } of await keys())
      expect(exp * 1000).toBeGreaterThan(performance.timeOrigin + performance.now() - 50);
    await eventually(async () => (await keys()).length === 0, 10_000, 40);
    expect(performance.timeOrigin + performance.now()).toBeGreaterThanOrEqual(lastExpiry * 1000 - 50);
  });
});
