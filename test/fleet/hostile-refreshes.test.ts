import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { type EndpointFixture, parse, startEndpointFixture } from "../http/endpoint-fixture.ts";
import { moveSession } from "../http/moved-session.ts";
import { madeUpToken } from "./session-attacks.ts";

/** Invariant I6 where mallory replaced the function that refreshes: genuine rows, and what it says of them is not. */

let fixture: EndpointFixture;
let genuine: string;
let tokens: TokenResponse;

const sql = (text: string) => fixture.database.pool.query(text);
const refresh = (token: string, parameters: object = {}) =>
  fixture.postForm("/token", { grant_type: "refresh_token", refresh_token: token, ...parameters });

/** Every refresh is granted, whatever it presents, but for what `more` says. */
async function grantAll(more = ""): Promise<void> {
  const parameters = "pg_get_function_arguments(oid) as parameters, pg_get_functiondef(oid) as definition";
  const { rows } = await sql(`select ${parameters} from pg_proc where proname = 'refresh_session'`);
  await sql(`drop function keyfleet.refresh_session;
    create function keyfleet.refresh_session(${rows[0].parameters}) language plpgsql as $$ begin
      select * into session from keyfleet.sessions s where s.id = p_session_id;
      outcome := 'issued'; issued_at := clock_timestamp(); mature := true; scope := coalesce(p_scope, session.scope);
      kid := (p_issuer).candidates[1];
      ${more}
      perform keyfleet.record_token(p_issuer, p_jti, session.id, kid, session.client_id, session.audience, scope, issued_at);
    end $$`);
}

beforeAll(async () => {
  fixture = await startEndpointFixture();
  const { rows } = await sql(
    "select pg_get_functiondef(oid) as text from pg_proc where proname = 'refresh_session'",
  );
  genuine = rows[0].text;
}, 30_000);
afterAll(() => fixture?.stop());
beforeEach(async () => {
  tokens = await fixture.login({ scope: "orders:read" });
});
afterEach(async () => {
  await sql(`drop function keyfleet.refresh_session; ${genuine}`);
  expect((await refresh((await fixture.login()).refresh_token)).status).toBe(200);
});

async function expectRefused(token: string, parameters: object = {}): Promise<void> {
  const answer = await refresh(token, parameters);
  expect([answer.status, parse(answer)["error"]]).toEqual([400, "invalid_grant"]);
}

test("a function that grants all gives the session's own token its tokens: nothing but the answer is wrong with the others", async () => {
  await grantAll();
  const answer = await refresh(tokens.refresh_token);
  expect(decodeJwt(parse<TokenResponse>(answer).access_token)["scope"]).toBe("orders:read");
});

test("a made-up token is refused though the function grants it", async () => {
  await grantAll();
  await expectRefused(madeUpToken(tokens.session_id).text);
});

describe("where the function calls all a repeat", () => {
  beforeEach(async () => {
    expect((await refresh(tokens.refresh_token)).status).toBe(200);
  });

  test("a used token has its successor within its grace", async () => {
    await grantAll("outcome := 'repeated';");
    expect((await refresh(tokens.refresh_token)).status).toBe(200);
  });

  test("a made-up token is refused", async () => {
    await grantAll("outcome := 'repeated';");
    await expectRefused(madeUpToken(tokens.session_id).text);
  });

  test("a used token is refused after its grace", async () => {
    await moveSession(fixture.database, tokens.session_id, { usedAgoMs: 60_000 });
    await grantAll("outcome := 'repeated';");
    await expectRefused(tokens.refresh_token);
  });
});

test("a used token is refused though the function takes it as the current one", async () => {
  expect((await refresh(tokens.refresh_token)).status).toBe(200);
  await grantAll();
  await expectRefused(tokens.refresh_token);
});

test("no more scope is given than the session has, whatever the function says", async () => {
  await grantAll("scope := 'orders:read keyfleet:admin';");
  await expectRefused(tokens.refresh_token);
});

test("no more scope is given than the session has, whatever is asked for", async () => {
  await grantAll();
  await expectRefused(tokens.refresh_token, { scope: "keyfleet:admin" });
});

test("no more scope is given than was asked for", async () => {
  const { refresh_token } = await fixture.login();
  await grantAll("scope := session.scope;");
  await expectRefused(refresh_token, { scope: "orders:read" });
});

test("another client's session is refused though the function grants it", async () => {
  await grantAll();
  await expectRefused(tokens.refresh_token, { client_id: "another-app" });
});

test("another session's row is refused, even a genuine one", async () => {
  const other = await fixture.login();
  await grantAll(`select * into session from keyfleet.sessions s where s.id = '${other.session_id}';`);
  await expectRefused(tokens.refresh_token);
});

test.each([
  ["absolute", { endsInMs: -1000 }],
  ["idle", { usedAgoMs: 31 * 86_400_000 }],
])("a session past its %s end is refused though the function grants it", async (_, times) => {
  await moveSession(fixture.database, tokens.session_id, times);
  await grantAll();
  await expectRefused(tokens.refresh_token);
});
