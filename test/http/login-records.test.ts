import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { decodeJwt, decodeProtectedHeader } from "jose";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { addAccount, alice, eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, readMetrics, startInstance, type TestInstance } from "../support/instance.ts";
import { sendRequest } from "./raw-request.ts";
import { everything } from "./refusal.ts";

const daySeconds = 24 * 60 * 60;
const ttlSeconds = 420;

let database: TestDatabase;
let instance: TestInstance;

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  instance = await startInstance({
    databaseUrl: database.url,
    settings: { ACCESS_TOKEN_TTL: `${ttlSeconds}s`, SESSION_TTL: "20d" },
  });
});

afterAll(async () => {
  await instance.stop();
  await database.drop();
});

function post(members: object) {
  const { username, password } = alice;
  return sendRequest(instance.url, "/login", {
    method: "POST",
    headers: { "content-type": "application/json", "user-agent": "a browser" },
    body: JSON.stringify({ username, password, ...members }),
  });
}

async function rows(sql: string, ...values: unknown[]) {
  return (await database.pool.query(sql, values)).rows;
}

const facts = { client_id: "web", scope: "orders:read" };

async function loginAsWeb() {
  const answer = await post({ ...facts, audience: instance.issuer });
  return JSON.parse(answer.body.toString()) as TokenResponse;
}

test("a login leaves its session, as the answer and the token tell it", async () => {
  const tokens = await loginAsWeb();
  const { sub } = decodeJwt(tokens.access_token);
  const [session] = await rows("select * from keyfleet.sessions where id = $1", tokens.session_id);
  expect(session).toMatchObject({ ...facts, audience: instance.issuer, account_id: sub });
  expect(session).toMatchObject({ address: "127.0.0.1", user_agent: "a browser" });
  expect(session).toMatchObject({ generation: 0, ended_at: null });
  expect(session.expires_at - session.auth_time).toBe(20 * daySeconds * 1000);
  expect(session.rotated_at).toEqual(session.auth_time);
});

test("it leaves the record of the token that was issued, under the key that signed it", async () => {
  const tokens = await loginAsWeb();
  const { jti, iat } = decodeJwt(tokens.access_token);
  const { kid } = decodeProtectedHeader(tokens.access_token);
  const issued = await rows("select * from keyfleet.issued_tokens where session_id = $1", tokens.session_id);
  expect(issued).toHaveLength(1);
  expect(issued[0]).toMatchObject({ ...facts, audience: instance.issuer, jti, kid });
  expect(issued[0].instance_id).toBe(instance.instanceId);
  expect(Math.floor(issued[0].issued_at / 1000)).toBe(iat);
  expect(issued[0].expires_at - issued[0].issued_at).toBe(ttlSeconds * 1000);
});

test("it leaves the address, once however often", async () => {
  const { sub } = decodeJwt((await loginAsWeb()).access_token);
  await loginAsWeb();
  const addresses = await rows(
    "select address_block from keyfleet.account_addresses where account_id = $1",
    sub,
  );
  expect(addresses).toEqual([{ address_block: "127.0.0.1" }]);
});

test("it leaves nothing that could be used as a token or a password", async () => {
  const { access_token, refresh_token } = await loginAsWeb();
  const refreshBytes = Buffer.from(refresh_token.slice("kfr_".length), "base64url");
  const refreshSecret = refreshBytes.subarray(20, 52);
  const tables = await rows("select tablename from pg_catalog.pg_tables where schemaname = 'keyfleet'");
  const dump = (
    await Promise.all(
      tables.map(({ tablename }) =>
        rows(`select coalesce(string_agg(t::text, ' '), '') as text from keyfleet.${tablename} t`),
      ),
    )
  )
    .map(([table]) => table.text)
    .join("\n");
  expect(dump).toContain(decodeJwt(access_token).jti);
  const spellings = (bytes: Buffer) =>
    (["hex", "base64", "base64url"] as const).map((as) => bytes.toString(as));
  const secrets = [...spellings(refreshSecret), ...spellings(refreshBytes), refresh_token, access_token];
  for (const secret of [...secrets, alice.password, String(access_token.split(".")[2])]) {
    expect(dump).not.toContain(secret);
  }
});

test("a refused login leaves nothing", async () => {
  const count =
    "select (select count(*) from keyfleet.sessions) + (select count(*) from keyfleet.issued_tokens) as rows";
  const before = await rows(count);
  const answer = await post({ password: "not her password" });
  expect(answer.status).toBe(401);
  expect(everything(answer)).not.toMatch(/token|session/);
  expect(await rows(count)).toEqual(before);
});

test("logins are counted by outcome", async () => {
  const metric = (outcome: string) => readMetric(instance, `keyfleet_logins_total{outcome="${outcome}"}`);
  const outcomes = ["success", "invalid_credentials", "invalid_target"];
  const before = await Promise.all(outcomes.map(metric));
  await post({});
  await post({ password: "not her password" });
  await post({ audience: "x" });
  expect(await Promise.all(outcomes.map(metric))).toEqual(before.map((count) => count + 1));
});

test("requests are counted by method, route and status, with the seconds that they took", async () => {
  const metric = (part: "count" | "sum", status: number) =>
    `keyfleet_http_request_duration_seconds_${part}{method="POST",route="/login",status="${status}"}`;
  const counts = () =>
    readMetrics(
      instance,
      [200, 401, 400].map((status) => metric("count", status)),
    );
  const seconds = () => readMetric(instance, metric("sum", 200));
  const [before, secondsBefore] = [await counts(), await seconds()];
  const startedAtMs = performance.now();
  await post({});
  await post({ password: "not her password" });
  await post({ audience: "x" });
  const expected = before.map((count) => count + 1).join();
  // An answer may have been read before its request counts as over.
  await eventually(async () => (await counts()).join() === expected);
  const tookSeconds = (await seconds()) - secondsBefore;
  expect(tookSeconds).toBeGreaterThan(0);
  expect(tookSeconds).toBeLessThan((performance.now() - startedAtMs) / 1000);
});
