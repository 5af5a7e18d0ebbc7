/** pgbouncer in transaction mode between the fleet and Postgres, with a way past it for LISTEN, and without. */

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { verifyThrough } from "../fleet/stock-verification.ts";
import { addAccount, eventually, login, postLogin } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, type Settings, startInstance, type TestInstance } from "../support/instance.ts";
import { startOwnServer } from "../support/own-server.ts";
import { documentedParameters, type Pooler, pgbouncer, startPooler } from "../support/pooler.ts";
import { openStream, revocationOf, type StreamConnection } from "../support/revocation-stream.ts";
import { logOut } from "../support/revocations.ts";

const describeWithPooler = pgbouncer === undefined ? describe.skip : describe;

/** The first is the signer, and whoever starts later borrows for good. */
const settings = { ISSUER: "https://id.example", MAX_SIGNERS: "1", LOGIN_ATTEMPTS: "10000" };

describeWithPooler("behind pgbouncer in transaction mode (needs pgbouncer on this machine)", () => {
  let database: TestDatabase;
  let pooler: Pooler | undefined;
  let started: TestInstance[];
  let stream: StreamConnection | undefined;

  beforeEach(async () => {
    [started, stream, pooler] = [[], undefined, undefined];
    database = await freshDatabase();
    await addAccount(database.url);
  });
  afterEach(async () => {
    stream?.close();
    await Promise.all(started.map((instance) => instance.stop("SIGKILL")));
    await pooler?.close();
    await database.drop();
  });

  async function start(databaseUrl: string, given: Settings, untilReady = true): Promise<TestInstance> {
    const instance = await startInstance({ databaseUrl, settings: { ...settings, ...given }, untilReady });
    started.push(instance);
    return instance;
  }

  async function refresh({ url }: TestInstance, refresh_token: string): Promise<TokenResponse> {
    const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token });
    const response = await fetch(`${url}/token`, { method: "POST", body });
    expect(response.status).toBe(200);
    return (await response.json()) as TokenResponse;
  }

  /** From the answer to a logout at one until the event arrives from another. */
  async function logoutLatenciesMs(at: TestInstance, from: TestInstance, count: number): Promise<number[]> {
    const opened = await openStream(from.url);
    stream = opened;
    await eventually(() => opened.events.some(({ type }) => type === "ready"));
    const latencies: number[] = [];
    for (let round = 0; round < count; round += 1) {
      const { session_id, refresh_token } = await login(at.url);
      await logOut(at.url, refresh_token);
      const answeredAtMs = performance.now();
      const arrival = () =>
        opened.events.find((event) => event.type === "revocation" && revocationOf(event).id === session_id);
      await eventually(() => arrival() !== undefined);
      latencies.push((arrival()?.atMs ?? Number.NaN) - answeredAtMs);
    }
    return latencies;
  }

  test("with a way past it for LISTEN, logins, refreshes, loans and logouts are what they are without", async () => {
    pooler = await startPooler(database.url, documentedParameters);
    const given = { DATABASE_LISTEN_URL: database.url, FLEET_SYNC_INTERVAL: "10s" };
    const signer = await start(pooler.url, given);
    const borrower = await start(pooler.url, given);
    const instances = [signer, borrower] as const;
    for (const instance of instances) {
      await eventually(async () => (await readMetric(instance, "keyfleet_listening")) === 1);
    }
    const sessions = await Promise.all(
      Array.from({ length: 40 }, (_, index) => login(instances[index % 2]?.url ?? "")),
    );
    for (const [index, session] of sessions.entries()) {
      const instance = instances[(index + 1) % 2] ?? signer;
      const { access_token } = await refresh(instance, session.refresh_token);
      await verifyThrough(signer, access_token);
    }
    expect(await readMetric(borrower, 'keyfleet_access_tokens_issued_total{key="borrowed"}')).toBe(40);
    const latencies = await logoutLatenciesMs(borrower, signer, 10);
    expect(Math.max(...latencies)).toBeLessThan(1000);
  });

  test("without, an instance that cannot hear borrows nothing, and learns of logouts by polling", async () => {
    // Otherwise it would refuse the listening connection; this way it takes LISTEN, and forgets it.
    pooler = await startPooler(database.url, [...documentedParameters, "options"]);
    const signer = await start(database.url, {});
    const deaf = await start(pooler.url, { FLEET_SYNC_INTERVAL: "500ms" }, false);
    await eventually(async () => (await fetch(`${deaf.url}/readyz`)).status === 200);
    const [latency] = [Math.max(...(await logoutLatenciesMs(signer, deaf, 8)))];
    // A tenth by which beats are spread, and the reading itself on a busy machine.
    expect(latency).toBeLessThan(550 + 500);

    expect(deaf.output()).toContain("notifications do not arrive");
    expect(await readMetric(deaf, "keyfleet_listening")).toBe(0);
    const issuing = await fetch(`${deaf.url}/readyz/issue`);
    expect([issuing.status, await issuing.json()]).toMatchObject([
      503,
      { checks: { database: true, signing_key: false } },
    ]);
    const refused = await postLogin(deaf.url);
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "1"]);
    const loans = await (await fetch(deaf.metricsUrl)).text();
    expect(loans).not.toMatch(/keyfleet_signature_loans_total\{outcome="(borrowed|unanswered)"\} [1-9]/);
    // What needs no new signature is served all the same.
    const { access_token } = await login(signer.url);
    await verifyThrough(deaf, access_token);
  });

  test("without, a fleet of instances with mature keys needs nobody's signature, and nothing is missing", async () => {
    pooler = await startPooler(database.url, [...documentedParameters, "options"]);
    const given = { MAX_SIGNERS: "16", FLEET_SYNC_INTERVAL: "500ms" };
    const instances = [await start(pooler.url, given), await start(pooler.url, given)] as const;
    for (const instance of instances) {
      const { refresh_token } = await login(instance.url);
      await eventually(async () => {
        const { access_token } = await refresh(instances[0], refresh_token);
        return (await verifyThrough(instances[1], access_token)) !== undefined;
      });
    }
    const latencies = await logoutLatenciesMs(instances[0], instances[1], 8);
    expect(Math.max(...latencies)).toBeLessThan(550 + 500);
  });

  test("when the database is back, so are the instances behind it; with pgbouncer's own default much later", async () => {
    const server = await startOwnServer({});
    /** From the database's return until a login is answered. */
    async function backAfterMs(loginRetrySeconds: number): Promise<number> {
      pooler = await startPooler(server.url, documentedParameters, loginRetrySeconds);
      const instance = await start(pooler.url, { DATABASE_LISTEN_URL: server.url, MAX_SIGNERS: "16" });
      await login(instance.url);
      await server.stop();
      // The pooler has tried, and failed.
      await eventually(async () => (await postLogin(instance.url)).status === 503);
      await server.start();
      const backMs = performance.now();
      await eventually(async () => (await postLogin(instance.url)).status === 200, 30_000);
      await instance.stop("SIGKILL");
      await pooler.close();
      pooler = undefined;
      return performance.now() - backMs;
    }
    try {
      await addAccount(server.url);
      expect(await backAfterMs(1)).toBeLessThan(4000);
      expect(await backAfterMs(15)).toBeGreaterThan(8000);
    } finally {
      await server.remove();
    }
  });
});
