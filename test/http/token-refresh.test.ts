import { randomBytes, randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import { createFleetSecrets } from "../../src/fleet-secret.ts";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { createRefreshToken, encodeRefreshToken } from "../../src/tokens/refresh-token.ts";
import { alice, manageAccounts, testSecrets } from "../support/accounts.ts";
import { readMetric, readMetrics } from "../support/instance.ts";
import { expectBadRequest, expectInvalidClient, expectNothingDone, sendLines } from "./endpoint-answers.ts";
import {
  apiAudience,
  basic,
  bearer,
  type EndpointFixture,
  type Headers,
  parse,
  startEndpointFixture,
} from "./endpoint-fixture.ts";
import { describeFormRules, describeMethodRules, describeOutage } from "./endpoint-rules.ts";
import { moveSession } from "./moved-session.ts";

const minuteMs = 60_000;
const dayMs = 24 * 60 * minuteMs;

let fixture: EndpointFixture;

beforeAll(async () => {
  fixture = await startEndpointFixture({ ACCESS_TOKEN_TTL: "420s" });
});
afterAll(() => fixture.stop());

function post(refreshToken: string, parameters = {}, headers: Headers = {}) {
  const all = { grant_type: "refresh_token", refresh_token: refreshToken, ...parameters };
  return fixture.postForm("/token", all, headers);
}

async function refresh(refreshToken: string, parameters = {}, headers: Headers = {}) {
  const answer = await post(refreshToken, parameters, headers);
  expect(answer.status).toBe(200);
  return parse<TokenResponse>(answer);
}

/** Nothing comes of the request, and the token is as good as before. */
async function refuse(error: string, tokens: TokenResponse, ask: () => ReturnType<typeof post>) {
  expectBadRequest(await expectNothingDone(fixture, ask), error);
  await refresh(tokens.refresh_token);
}

describe("a refresh is answered", () => {
  test("with the members of a login, of the same session, which nobody stores", async () => {
    const before = await fixture.login({ scope: "orders:write orders:read" });
    const answer = await post(before.refresh_token);
    expect(answer.status).toBe(200);
    expect(answer.headers["content-type"]).toMatch(/^application\/json\b/);
    expect(answer.headers).toMatchObject({ "cache-control": "no-store", pragma: "no-cache" });
    expect(parse(answer)).toEqual({
      access_token: expect.stringMatching(/^[\w-]+\.[\w-]+\.[\w-]{86}$/),
      token_type: "Bearer",
      expires_in: 420,
      refresh_token: expect.stringMatching(/^kfr_[\w-]{91}$/),
      refresh_expires_in: 30 * 24 * 60 * 60,
      scope: "orders:write orders:read",
      session_id: before.session_id,
    });
  });

  test("with an access token that differs from the first in its id and its times alone", async () => {
    const before = await fixture.login({ audience: apiAudience, client_id: "web" });
    const after = await refresh(before.refresh_token, { client_id: "web" });
    const { jti, iat = 0, exp, nbf, ...same } = decodeJwt(before.access_token);
    const claims = decodeJwt(after.access_token);
    expect(claims).toEqual({
      ...same,
      jti: expect.any(String),
      iat: expect.any(Number),
      nbf: claims.iat,
      exp: Number(claims.iat) + 420,
    });
    expect(claims.jti).not.toBe(jti);
    expect(claims.iat).toBeGreaterThanOrEqual(iat);
  });

  test("the same again to the same token within its grace, with another access token", async () => {
    const before = await fixture.login();
    const first = await refresh(before.refresh_token);
    const second = await refresh(before.refresh_token);
    expect(second.refresh_token).toBe(first.refresh_token);
    expect(decodeJwt(second.access_token).jti).not.toBe(decodeJwt(first.access_token).jti);
    await refresh(first.refresh_token);
  });

  test("ten times again: more often is no lost answer, is refused, and hurts nobody", async () => {
    const before = await fixture.login();
    const first = await refresh(before.refresh_token);
    const again = Array.from({ length: 14 }, () => post(before.refresh_token));
    const answers = await Promise.all(again);
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(10);
    const refused = answers.filter(({ status }) => status !== 200);
    for (const answer of refused) expectBadRequest(answer, "invalid_grant");
    expectBadRequest(await expectNothingDone(fixture, () => post(before.refresh_token)), "invalid_grant");
    await refresh(first.refresh_token);
  });
});

describe("a session's ends", () => {
  test("refresh_expires_in does not reach beyond the absolute end, which no refresh moves", async () => {
    const { refresh_token, session_id } = await fixture.login();
    await moveSession(fixture.database, session_id, { endsInMs: 100_000 });
    const first = await refresh(refresh_token);
    expect(first.refresh_expires_in).toBeGreaterThan(90);
    expect(first.refresh_expires_in).toBeLessThanOrEqual(100);
    const end = "select expires_at from keyfleet.sessions where id = $1";
    const before = await fixture.database.pool.query(end, [session_id]);
    await refresh(first.refresh_token);
    expect((await fixture.database.pool.query(end, [session_id])).rows).toEqual(before.rows);
  });

  test("after the absolute end its refresh token is refused, a moment before it is not", async () => {
    const tokens = await fixture.login();
    await moveSession(fixture.database, tokens.session_id, { endsInMs: minuteMs });
    const { refresh_token } = await refresh(tokens.refresh_token);
    await moveSession(fixture.database, tokens.session_id, { endsInMs: 0 });
    const answer = await expectNothingDone(fixture, () => post(refresh_token));
    expectBadRequest(answer, "invalid_grant");
  });

  test("unused for 30 days it is refused, for a minute less it is not; each refresh counts anew", async () => {
    const tokens = await fixture.login();
    await moveSession(fixture.database, tokens.session_id, { usedAgoMs: 30 * dayMs - minuteMs });
    const second = await refresh(tokens.refresh_token);
    await moveSession(fixture.database, tokens.session_id, { usedAgoMs: 30 * dayMs - minuteMs });
    const third = await refresh(second.refresh_token);
    await moveSession(fixture.database, tokens.session_id, { usedAgoMs: 30 * dayMs });
    const answer = await expectNothingDone(fixture, () => post(third.refresh_token));
    expectBadRequest(answer, "invalid_grant");
  });

  test("a token presented again after its grace ends the session, and with it the successor", async () => {
    const tokens = await fixture.login();
    const successor = await refresh(tokens.refresh_token);
    const reuses = () => readMetric(fixture.instance, "keyfleet_refresh_tokens_reused_total");
    const before = await reuses();
    await moveSession(fixture.database, tokens.session_id, { usedAgoMs: minuteMs });
    expectBadRequest(await post(tokens.refresh_token), "invalid_grant");
    expect(await reuses()).toBe(before + 1);
    const { rows } = await fixture.database.pool.query(
      "select end_reason from keyfleet.sessions where id = $1",
      [tokens.session_id],
    );
    expect(rows).toEqual([{ end_reason: "refresh_token_reused" }]);
    expectBadRequest(await post(successor.refresh_token), "invalid_grant");
    expect((await fixture.send("GET", "/userinfo", bearer(successor.access_token))).status).toBe(401);
  });

  test("a disabled account's session is over", async () => {
    await manageAccounts(fixture.database.url, (accounts) => accounts.add("leaver", alice.password, []));
    const { refresh_token } = await fixture.login({ username: "leaver" });
    await manageAccounts(fixture.database.url, (accounts) => accounts.disable("leaver"));
    expectBadRequest(await expectNothingDone(fixture, () => post(refresh_token)), "invalid_grant");
  });
});

describe("the scope", () => {
  test.each([
    ["orders:read", "orders:read"],
    ["orders:write orders:read", "orders:write orders:read"],
    [" orders:read  orders:read ", "orders:read"],
    ["", "orders:read orders:write"],
  ])("asked for as '%s' is granted as '%s', and the session keeps all of its own", async (scope, granted) => {
    const tokens = await fixture.login();
    const narrow = await refresh(tokens.refresh_token, { scope });
    expect(narrow.scope).toBe(granted);
    expect(decodeJwt(narrow.access_token)["scope"]).toBe(granted);
    expect((await refresh(narrow.refresh_token)).scope).toBe("orders:read orders:write");
  });

  test.each(["keyfleet:admin", "orders:read orders:delete", "ORDERS:READ", "orders:read\torders:write", '"'])(
    "%p is no part of the session's: invalid_scope, and the token is not used up",
    async (scope) => {
      const tokens = await fixture.login();
      await refuse("invalid_scope", tokens, () => post(tokens.refresh_token, { scope }));
    },
  );

  test("keyfleet:admin is kept by a session that was asked for it by name", async () => {
    const scope = "orders:read keyfleet:admin";
    const { refresh_token } = await fixture.login({ scope });
    expect((await refresh(refresh_token)).scope).toBe(scope);
  });
});

describe("the client", () => {
  test("is the session's: for another one invalid_grant, and the token is not used up", async () => {
    const web = await fixture.login({ client_id: "web" });
    for (const parameters of [{}, { client_id: "other" }, { client_id: "first-party" }]) {
      const answer = await expectNothingDone(fixture, () => post(web.refresh_token, parameters));
      expectBadRequest(answer, "invalid_grant");
    }
    await refresh(web.refresh_token, { client_id: "web" });
  });

  test("authenticates where it is confidential: by Basic, or by the form", async () => {
    const { shop, reports } = fixture.clientSecrets;
    const client = { client_id: "shop", client_secret: shop };
    const first = await fixture.login(client);
    const answers = await expectNothingDone(fixture, async () => [
      await post(first.refresh_token, { client_id: "shop" }),
      await post(first.refresh_token, { ...client, client_secret: reports }),
      await post(first.refresh_token, {}, basic("shop", `${shop}x`)),
      await post(first.refresh_token, { client_secret: "" }, basic("shop", "")),
    ]);
    for (const answer of answers) expectInvalidClient(answer);
    const stolen = await expectNothingDone(fixture, () =>
      post(first.refresh_token, {}, basic("reports", reports)),
    );
    expectBadRequest(stolen, "invalid_grant");
    const second = await refresh(first.refresh_token, {}, basic("shop", shop));
    await refresh(second.refresh_token, client);
  });

  test("is no public one where it tried to authenticate, and failed", async () => {
    const tokens = await fixture.login();
    for (const authorization of ["Basic", "Basic a*b", "Basic Og=="]) {
      const ask = () => post(tokens.refresh_token, {}, { authorization });
      expectInvalidClient(await expectNothingDone(fixture, ask));
    }
    const ask = () => post(tokens.refresh_token, { client_secret: fixture.clientSecrets.shop });
    expectInvalidClient(await expectNothingDone(fixture, ask));
    await refresh(tokens.refresh_token);
  });
});

describe("what is no refresh token of this fleet has no effect:", () => {
  const swap = (head: string, tail: string) => head.slice(0, 30) + tail.slice(30);
  const madeUp = (sessionId: string, generation: number, secrets = testSecrets) =>
    encodeRefreshToken(secrets, { ...createRefreshToken(sessionId), generation });
  const another = createFleetSecrets(randomBytes(32));
  const rows: [string, (own: TokenResponse, other: TokenResponse) => string][] = [
    ["an access token", (own) => own.access_token],
    ["a word", () => "x"],
    ["a token without its last character", (own) => own.refresh_token.slice(0, -1)],
    ["a token without its prefix", (own) => own.refresh_token.slice(4)],
    ["a token in other case", (own) => own.refresh_token.toUpperCase()],
    ["a token and a line feed", (own) => `${own.refresh_token}\n`],
    ["a token with another's secret", (own, other) => swap(own.refresh_token, other.refresh_token)],
    ["a made-up secret for the session", (own) => madeUp(own.session_id, 0, another)],
    ["a made-up older one", (own) => madeUp(own.session_id, 0, another)],
    ["a made-up later one", (own) => madeUp(own.session_id, 7, another)],
    ["one of the last generation that can be written", (own) => madeUp(own.session_id, 2 ** 32 - 1, another)],
    ["one of the last generation that a row can have", (own) => madeUp(own.session_id, 2 ** 31 - 1, another)],
    ["another fleet's", () => madeUp(randomUUID(), 0, another)],
    ["a genuine one of a session that is gone", () => madeUp(randomUUID(), 0)],
  ];

  test.each(rows)("%s", async (_name, make) => {
    const [login, other] = [await fixture.login(), await fixture.login()];
    // So that there is an older generation to make one up for.
    const own = await refresh(login.refresh_token);
    await refuse("invalid_grant", own, () => post(make(own, other)));
  });
});

describe("the request", () => {
  test.each([
    "password",
    "authorization_code",
    "Refresh_Token",
    "urn:ietf:params:oauth:grant-type:jwt-bearer",
  ])("for the grant type %s is an unsupported_grant_type", async (grantType) => {
    const tokens = await fixture.login();
    const ask = () => post(tokens.refresh_token, { grant_type: grantType });
    await refuse("unsupported_grant_type", tokens, ask);
  });

  test("does not count what is in the query", async () => {
    const tokens = await fixture.login();
    const query = new URLSearchParams({ grant_type: "refresh_token", refresh_token: tokens.refresh_token });
    await refuse("invalid_request", tokens, () => fixture.postForm(`/token?${query}`, {}));
  });

  test("with two Authorization headers is malformed", async () => {
    const { authorization } = basic("shop", fixture.clientSecrets.shop);
    const tokens = await fixture.login({ client_id: "shop", client_secret: fixture.clientSecrets.shop });
    const form = new URLSearchParams({ grant_type: "refresh_token", refresh_token: tokens.refresh_token });
    const lines = ["POST /token HTTP/1.1", "Content-Type: application/x-www-form-urlencoded"];
    const line = `Authorization: ${authorization}`;
    const answer = await expectNothingDone(fixture, () =>
      sendLines(fixture, [...lines, line, line], form.toString()),
    );
    expectBadRequest(answer, "invalid_request");
  });
});

test("requests are counted by grant and outcome", async () => {
  const kinds = ["refresh_token success", "refresh_token invalid_grant", "client_credentials success"];
  const metrics = kinds
    .map((kind) => kind.split(" "))
    .map(([grant, outcome]) => `keyfleet_token_requests_total{grant_type="${grant}",outcome="${outcome}"}`);
  const before = await readMetrics(fixture.instance, metrics);
  await refresh((await fixture.login()).refresh_token);
  await post("kfr_x");
  const asShop = basic("shop", fixture.clientSecrets.shop);
  await fixture.postForm("/token", { grant_type: "client_credentials" }, asShop);
  expect(await readMetrics(fixture.instance, metrics)).toEqual(before.map((count) => count + 1));
});

describeMethodRules({ fixture: () => fixture, path: "/token", allowed: ["POST"] });
describeFormRules({
  fixture: () => fixture,
  path: "/token",
  parameters: { grant_type: "refresh_token", refresh_token: "kfr_x" },
  required: ["grant_type", "refresh_token"],
  read: ["grant_type", "refresh_token", "scope", "audience", "client_id", "client_secret"],
  takesJson: false,
});
describeOutage(
  () => fixture,
  async () => {
    const { refresh_token } = await fixture.login();
    return [() => post(refresh_token)];
  },
);
