import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { alice, eventually } from "../support/accounts.ts";
import { readMetric } from "../support/instance.ts";
import { basic, bearer, type EndpointFixture, parse, startEndpointFixture } from "./endpoint-fixture.ts";

/** The database's clock has microseconds, a row milliseconds, a token seconds: all have to agree on the second. */

let fixture: EndpointFixture;

/** Whatever issues, issues 0.4 ms before the end of a second: one time in 2,000 it does so by itself. */
async function stopAtEndOfSecond(): Promise<void> {
  const { pool } = fixture.database;
  for (const name of ["start_session", "refresh_session", "issue_client_token"]) {
    const { rows } = await pool.query<{ text: string }>(
      "select pg_get_functiondef(oid) as text from pg_proc where proname = $1",
      [name],
    );
    const { text = "" } = rows[0] ?? {};
    const reading = "issued_at := pg_catalog.clock_timestamp();";
    expect(text.split(reading)).toHaveLength(2);
    const end = "date_trunc('second', clock_timestamp() - interval '500 ms') + interval '999.6 ms'";
    await pool.query(text.replace(reading, `issued_at := ${end};`));
  }
}

beforeAll(async () => {
  fixture = await startEndpointFixture();
  await stopAtEndOfSecond();
}, 30_000);
afterAll(() => fixture?.stop());

async function post(target: string, parameters: Record<string, string>, headers = {}) {
  let answer = await fixture.postForm(target, parameters, headers);
  // It is up to half a second from the time that the instance proposes, which is all that may be.
  await eventually(async () => {
    if (answer.status === 503) answer = await fixture.postForm(target, parameters, headers);
    return answer.status !== 503;
  });
  expect(answer.status).toBe(200);
  return parse<TokenResponse>(answer);
}

test("a token that is issued as a second ends is no forgery", async () => {
  const shop = basic("shop", fixture.clientSecrets.shop);
  const first = await post("/login", {
    username: alice.username,
    password: alice.password,
    audience: fixture.issuer,
  });
  const grant = { grant_type: "refresh_token", refresh_token: first.refresh_token };
  const refreshed = await post("/token", grant);
  const repeated = await post("/token", grant);
  const ofClient = await post("/token", { grant_type: "client_credentials" }, shop);
  for (const { access_token: token } of [first, refreshed, repeated, ofClient]) {
    expect(parse(await fixture.postForm("/introspect", { token }, shop))).toMatchObject({ active: true });
  }
  expect((await fixture.send("GET", "/userinfo", bearer(refreshed.access_token))).status).toBe(200);
  expect(await readMetric(fixture.instance, "keyfleet_forged_tokens_total")).toBe(0);
});
