import { randomBytes } from "node:crypto";
import { Agent, get } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import { addAccount, alice, eventually, login } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { logOut } from "../support/revocations.ts";
import { type GatewayProcess, startGateway } from "./gateway-process.ts";

const audience = "https://api.example";
const identityHeaders = ["x-auth-subject", "x-auth-scope", "x-auth-session", "x-auth-client"];

let database: TestDatabase;
let instance: TestInstance;
let gateway: GatewayProcess;

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  instance = await startInstance({ databaseUrl: database.url, settings: { AUDIENCES: audience } });
  gateway = await startGateway(flags("reject"));
  await untilReady(gateway);
}, 30_000);
afterAll(async () => {
  await gateway.stop();
  await instance.stop();
  await database.drop();
});

const flags = (whenStale: string) => [
  ...["--issuer", instance.issuer, "--audience", audience],
  ...["--when-stale", whenStale, "--max-staleness", "5s"],
];
const untilReady = ({ url }: GatewayProcess) =>
  eventually(async () => (await fetch(`${url}/readyz`)).status === 200);

function verify(token: string | undefined, query = "", headers: object = {}): Promise<Response> {
  const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
  return fetch(`${gateway.url}/verify${query}`, { headers: { ...authorization, ...headers } });
}

describe("GET /verify", () => {
  test("says of a good token who it is, in all of the headers", async () => {
    const { access_token: token, session_id: sessionId } = await login(instance.url);
    const answer = await verify(token);
    expect(answer.status).toBe(200);
    const { sub, scope } = decodeJwt(token) as { sub: string; scope: string };
    expect(identityHeaders.map((name) => answer.headers.get(name))).toEqual([
      sub,
      scope,
      sessionId,
      "first-party",
    ]);
    expect(answer.headers.get("cache-control")).toBe("no-store");
  });

  test("says nothing of who asks but by the token, whatever else the caller sends", async () => {
    const { access_token: token } = await login(instance.url);
    const forged = Object.fromEntries(identityHeaders.map((name) => [name, "admin"]));
    const answer = await verify(token, "", forged);
    for (const name of identityHeaders) expect(answer.headers.get(name)).not.toBe("admin");
    expect((await verify(undefined, "", forged)).status).toBe(401);
  });

  test("sends an empty scope too: a header that is left out could be the caller's", async () => {
    await addAccount(database.url, { username: "bob", password: alice.password, scopes: [] });
    const { access_token: token } = await login(instance.url, { username: "bob" });
    expect((await verify(token)).headers.get("x-auth-scope")).toBe("");
  });

  test("401 without a token names no error, with a bad one it does; 400 for two headers", async () => {
    const missing = await verify(undefined);
    expect([missing.status, missing.headers.get("www-authenticate")]).toEqual([
      401,
      'Bearer realm="keyfleet"',
    ]);
    const bad = await verify("x.y.z");
    expect([bad.status, bad.headers.get("www-authenticate")]).toEqual([401, 'Bearer error="invalid_token"']);
    for (const answer of [missing, bad]) {
      for (const name of identityHeaders) expect(answer.headers.get(name)).toBeNull();
    }
  });

  test("403 names the scope that is missing", async () => {
    const { access_token: token } = await login(instance.url, { scope: "orders:read" });
    expect((await verify(token, "?scope=orders:read")).status).toBe(200);
    const denied = await verify(token, "?scope=orders:write");
    expect(denied.status).toBe(403);
    expect(denied.headers.get("www-authenticate")).toBe(
      'Bearer error="insufficient_scope", scope="orders:write"',
    );
  });

  test("takes every scope that is named, however often it is, and none that is no scope", async () => {
    const { access_token: token } = await login(instance.url, { scope: "orders:read" });
    const statuses = async (...queries: string[]) =>
      Promise.all(queries.map(async (query) => (await verify(token, query)).status));
    expect(
      await statuses("?scope=orders:read&scope=orders:write", "?scope=orders:read+orders:write"),
    ).toEqual([403, 403]);
    expect(await statuses("?scope=orders:read&scope=", "?scope=orders:read&other=x")).toEqual([200, 200]);
    expect(await statuses("?scope=%0d%0ax", '?scope=a"b')).toEqual([400, 400]);
  });

  test("below it, where Envoy puts the caller's own path, nothing is read of that", async () => {
    const { access_token: token } = await login(instance.url, { scope: "orders:read" });
    const ask = (path: string) =>
      fetch(`${gateway.url}${path}`, { headers: { authorization: `Bearer ${token}` } });
    expect((await ask("/verify/orders/1?scope=orders:write")).status).toBe(200);
    expect((await fetch(`${gateway.url}/verify/orders/1`)).status).toBe(401);
    expect((await ask("/verifyorders")).status).toBe(404);
  });

  test("refuses a token as soon as its session has ended", async () => {
    const tokens = await login(instance.url);
    expect((await verify(tokens.access_token)).status).toBe(200);
    await logOut(instance.url, tokens.refresh_token);
    await eventually(async () => (await verify(tokens.access_token)).status === 401, 1000);
  });
});

test("what is not there is 404, and health and metrics are", async () => {
  expect((await fetch(`${gateway.url}/orders`)).status).toBe(404);
  expect((await fetch(`${gateway.url}/healthz`)).status).toBe(200);
  await verify(undefined);
  const metrics = await (await fetch(`${gateway.url}/metrics`)).text();
  expect(metrics).toMatch(/^keyfleet_gateway_decisions_total\{status="401"\} [1-9]/m);
});

test("SIGTERM ends it: what is under way is answered first", async () => {
  const own = await startGateway(flags("reject"));
  await untilReady(own);
  const { access_token: token } = await login(instance.url);
  const [, claims, signature] = token.split(".");
  const madeUp = () => {
    const header = { alg: "EdDSA", typ: "at+jwt", kid: randomBytes(32).toString("base64url") };
    return [Buffer.from(JSON.stringify(header)).toString("base64url"), claims, signature].join(".");
  };
  const ask = () => askExpecting(`${own.url}/verify`, { authorization: `Bearer ${madeUp()}` });
  // They use up what may be asked for at once: the next one waits for up to a second.
  for (let count = 0; count < 6; count += 1) expect(await ask().answered).toBe(401);
  const waiting = ask();
  await waiting.received;
  const ended = own.stop();
  expect(await waiting.answered).toBe(401);
  expect(await ended).toBe(0);
});

/** The last, for it takes the instance away. */
test("503 with Retry-After where revocations are too old to judge, 200 all the same where that is accepted", async () => {
  const [rejecting, accepting] = [gateway, await startGateway(flags("accept"))];
  await untilReady(accepting);
  const { access_token: token } = await login(instance.url);
  const ask = (of: GatewayProcess) =>
    fetch(`${of.url}/verify`, { headers: { authorization: `Bearer ${token}` } });
  expect((await ask(rejecting)).status).toBe(200);
  expect((await ask(accepting)).status).toBe(200);
  await instance.stop("SIGKILL");
  await eventually(async () => (await ask(rejecting)).status === 503, 15_000, 100);
  expect((await ask(rejecting)).headers.get("retry-after")).toBe("1");
  expect((await fetch(`${rejecting.url}/readyz`)).status).toBe(503);
  expect((await fetch(`${accepting.url}/readyz`)).status).toBe(200);
  expect((await ask(accepting)).status).toBe(200);
  await accepting.stop();
}, 40_000);

/** A request of which the client learns when the server has it (RFC 9110 §10.1.1). */
function askExpecting(url: string, headers: Readonly<Record<string, string>>) {
  const agent = new Agent({ keepAlive: false });
  const sent = get(url, { agent, headers: { ...headers, expect: "100-continue" } });
  const received = new Promise<void>((resolve) => sent.once("continue", () => resolve()));
  const answered = new Promise<number>((resolve, reject) => {
    sent.once("response", (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    sent.once("error", reject);
  });
  return { received, answered };
}
