import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { alice, manageAccounts } from "../support/accounts.ts";
import { readMetric } from "../support/instance.ts";
import { expectBadRequest, expectInvalidClient, expectNothingDone, sendLines } from "./endpoint-answers.ts";
import {
  apiAudience,
  basic,
  basicOf,
  bearer,
  type EndpointFixture,
  formType,
  type Headers,
  otherAudience,
  parse,
  startEndpointFixture,
} from "./endpoint-fixture.ts";
import { describeFormRules, describeMethodRules, describeOutage } from "./endpoint-rules.ts";
import { moveSession } from "./moved-session.ts";
import type { RawAnswer } from "./raw-request.ts";
import { createForger, type Forger, flawless, strangeTokens } from "./strange-tokens.ts";

let fixture: EndpointFixture;
/** Serves the first audience and the issuer. */
let shop: Headers;
/** Serves the other audience. */
let reports: Headers;

beforeAll(async () => {
  fixture = await startEndpointFixture();
  shop = basic("shop", fixture.clientSecrets.shop);
  reports = basic("reports", fixture.clientSecrets.reports);
});
afterAll(() => fixture.stop());

const ask = (token: string, parameters = {}, headers: Headers = shop) =>
  fixture.postForm("/introspect", { token, ...parameters }, headers);

function expectActive(answer: RawAnswer, token: string): void {
  expect(answer.status).toBe(200);
  expect(answer.headers["content-type"]).toMatch(/^application\/json\b/);
  expect(answer.headers["cache-control"]).toBe("no-store");
  expect(parse(answer)).toEqual({ active: true, token_type: "Bearer", ...decodeJwt(token) });
}

/** To the byte: nothing beside it may tell why. */
function expectInactive(answer: RawAnswer): void {
  expect(answer.status).toBe(200);
  expect(answer.headers["cache-control"]).toBe("no-store");
  expect(answer.body.toString()).toBe('{"active":false}');
}

async function issue(headers: Headers, parameters: object = {}): Promise<string> {
  const grant = { grant_type: "client_credentials", ...parameters };
  return parse<TokenResponse>(await fixture.postForm("/token", grant, headers)).access_token;
}

describe("an active token is told with its claims", () => {
  test.each(["", "access_token", "refresh_token", "unheard_of"])(
    "to the client that serves its audience, whatever the hint ('%s')",
    async (hint) => {
      const { access_token: token } = await fixture.login({ audience: apiAudience });
      const answer = await expectNothingDone(fixture, () => ask(token, { token_type_hint: hint }));
      expectActive(answer, token);
    },
  );

  test("to the members that RFC 7662 names, and the session's id", async () => {
    const { access_token: token, session_id } = await fixture.login({ audience: apiAudience });
    const members = parse(await ask(token));
    expect(members).toMatchObject({
      scope: "orders:read orders:write",
      client_id: "first-party",
      rid: session_id,
    });
    const names = "active,aud,auth_time,client_id,exp,iat,iss,jti,nbf,rid,scope,sub,token_type";
    expect(Object.keys(members).sort().join()).toBe(names);
  });

  test("to a client of several audiences, for each of them", async () => {
    for (const audience of [apiAudience, fixture.issuer]) {
      const { access_token: token } = await fixture.login({ audience });
      expectActive(await ask(token), token);
    }
  });

  test("to the client that it was issued to, also where that does not serve its audience", async () => {
    const client = { client_id: "reports", client_secret: fixture.clientSecrets.reports };
    const { access_token: token } = await fixture.login({ ...client, audience: apiAudience });
    expectActive(await ask(token, {}, reports), token);
    const own = await issue(reports);
    expectActive(await ask(own, {}, reports), own);
  });

  test("to a client that authenticates by the form", async () => {
    const { access_token: token } = await fixture.login({ audience: apiAudience });
    const client = { client_id: "shop", client_secret: fixture.clientSecrets.shop };
    expectActive(await ask(token, client, {}), token);
  });
});

describe("everything else is exactly inactive:", () => {
  test("a token of an audience that the client does not serve", async () => {
    const tokens = await Promise.all([
      fixture.login({ audience: apiAudience }),
      fixture.login(),
      fixture.login({ audience: apiAudience, client_id: "shop", client_secret: fixture.clientSecrets.shop }),
    ]);
    for (const { access_token } of tokens) expectInactive(await ask(access_token, {}, reports));
    expectInactive(await ask((await fixture.login({ audience: otherAudience })).access_token));
    expectInactive(await ask(await issue(reports)));
  });

  test("a refresh token, whatever the hint", async () => {
    const { refresh_token } = await fixture.login({ audience: apiAudience });
    for (const token_type_hint of ["", "refresh_token"]) {
      expectInactive(await expectNothingDone(fixture, () => ask(refresh_token, { token_type_hint })));
    }
  });

  const endings: [string, (tokens: TokenResponse, username: string) => Promise<unknown>][] = [
    [
      "its session was logged out",
      ({ access_token }) => fixture.send("POST", "/logout", bearer(access_token)),
    ],
    ["it was revoked", ({ access_token: token }) => fixture.postForm("/revoke", { token })],
    ["its refresh token was revoked", ({ refresh_token: token }) => fixture.postForm("/revoke", { token })],
    [
      "its session came to its absolute end",
      ({ session_id }) => moveSession(fixture.database, session_id, { endsInMs: 0 }),
    ],
    [
      "its account was disabled",
      (_, username) => manageAccounts(fixture.database.url, (accounts) => accounts.disable(username)),
    ],
    [
      "a scope was taken from its account",
      (_, username) => manageAccounts(fixture.database.url, (accounts) => accounts.withdraw(username, "a")),
    ],
    [
      "its account's password was set",
      (_, username) =>
        manageAccounts(fixture.database.url, (accounts) =>
          accounts.setPassword(username, "quite another one"),
        ),
    ],
  ];

  test.each(endings)("a token after %s, and active before", async (name, end) => {
    const username = name;
    await manageAccounts(fixture.database.url, (accounts) => accounts.add(username, alice.password, ["a"]));
    const tokens = await fixture.login({ username });
    expectActive(await ask(tokens.access_token), tokens.access_token);
    await end(tokens, username);
    expectInactive(await ask(tokens.access_token));
  });

  describe("", () => {
    let forger: Forger;
    beforeAll(async () => {
      forger = await createForger(fixture);
    });

    test("but the control: a token with nothing wrong", async () => {
      const token = await flawless(forger);
      expectActive(await ask(token), token);
    });

    test.each(strangeTokens)("$name", async ({ make }) => {
      const token = await make(forger);
      expectInactive(await expectNothingDone(fixture, () => ask(token)));
    });

    test.each(["x", "é", "\0", "a".repeat(10_000)])("the text %#", async (text) => {
      expectInactive(await ask(text));
    });

    test("what a key of ours signed and nobody issued, which is an alarm", async () => {
      const before = await readMetric(fixture.instance, "keyfleet_forged_tokens_total");
      expectInactive(await ask(forger.forge()));
      expect(await readMetric(fixture.instance, "keyfleet_forged_tokens_total")).toBe(before + 1);
      expectInactive(await ask(forger.good.slice(0, -1)));
      expect(await readMetric(fixture.instance, "keyfleet_forged_tokens_total")).toBe(before + 1);
    });
  });
});

describe("nobody is told anything", () => {
  const rows: [string, (secret: string, token: string) => [object, Headers]][] = [
    ["without credentials", () => [{}, {}]],
    ["by a client's name alone", () => [{ client_id: "shop" }, {}]],
    ["by a secret alone", (secret) => [{ client_secret: secret }, {}]],
    ["by the first party, which has no secret", () => [{ client_id: "first-party" }, {}]],
    ["by another's secret", () => [{ client_id: "shop", client_secret: fixture.clientSecrets.reports }, {}]],
    ["by a wrong secret", (secret) => [{}, basic("shop", `${secret}x`)]],
    ["by a client that does not exist", (secret) => [{}, basic("nobody", secret)]],
    ["by an id that can be none", (secret) => [{ client_id: "\0", client_secret: secret }, {}]],
    ["by Basic that cannot be read", () => [{}, { authorization: "Basic a*b" }]],
    ["by Basic without a colon", () => [{}, basicOf("shop")]],
    ["by the token itself", (_secret, token) => [{}, bearer(token)]],
  ];

  test.each(rows)("%s: invalid_client", async (_name, make) => {
    const { access_token: token } = await fixture.login({ audience: apiAudience });
    const [parameters, headers] = make(fixture.clientSecrets.shop, token);
    expectInvalidClient(await ask(token, parameters, headers));
  });

  test("with both kinds of authentication, or two headers of one: malformed", async () => {
    const { access_token: token } = await fixture.login({ audience: apiAudience });
    const both = { client_id: "shop", client_secret: fixture.clientSecrets.shop };
    expectBadRequest(await ask(token, both), "invalid_request");
    const line = `Authorization: ${shop["authorization"]}`;
    const lines = ["POST /introspect HTTP/1.1", `Content-Type: ${formType["content-type"]}`, line, line];
    expectBadRequest(await sendLines(fixture, lines, `token=${token}`), "invalid_request");
  });

  test("of a token in the query", async () => {
    const { access_token: token } = await fixture.login({ audience: apiAudience });
    const answer = await fixture.send("POST", `/introspect?token=${token}`, { ...formType, ...shop });
    expectBadRequest(answer, "invalid_request");
  });
});

describeMethodRules({ fixture: () => fixture, path: "/introspect", allowed: ["POST"] });
describeFormRules({
  fixture: () => fixture,
  path: "/introspect",
  parameters: { token: "x", client_id: "shop", client_secret: "x" },
  required: ["token"],
  read: ["token", "token_type_hint", "client_id", "client_secret"],
  takesJson: false,
});
describeOutage(
  () => fixture,
  async () => {
    const { access_token: token } = await fixture.login();
    return [() => ask(token), () => ask("x")];
  },
);
