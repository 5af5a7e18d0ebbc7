import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import { createClientStore } from "../../src/postgres/clients.ts";
import type { ClientTokenResponse } from "../../src/protocol/oauth.ts";
import { testActing } from "../support/accounts.ts";
import { startInstance } from "../support/instance.ts";
import { expectBadRequest, expectInvalidClient, expectNothingDone, sendLines } from "./endpoint-answers.ts";
import {
  addClient,
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
import { describeFormRules, describeOutage } from "./endpoint-rules.ts";
import { sendRequest } from "./raw-request.ts";

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

let fixture: EndpointFixture;
let shop: Headers;

beforeAll(async () => {
  fixture = await startEndpointFixture({ ACCESS_TOKEN_TTL: "420s" });
  shop = basic("shop", fixture.clientSecrets.shop);
});
afterAll(() => fixture.stop());

function post(parameters: object, headers: Headers = {}) {
  return fixture.postForm("/token", { grant_type: "client_credentials", ...parameters }, headers);
}

async function issue(parameters: object = {}, headers = shop) {
  const answer = await post(parameters, headers);
  expect(answer.status).toBe(200);
  const tokens = parse<ClientTokenResponse>(answer);
  return { ...tokens, claims: decodeJwt(tokens.access_token) };
}

async function refuse(error: string, parameters: object, headers: Headers = {}) {
  expectBadRequest(await expectNothingDone(fixture, () => post(parameters, headers)), error);
}

async function refuseClient(parameters: object, headers: Headers = {}) {
  expectInvalidClient(await expectNothingDone(fixture, () => post(parameters, headers)));
}

async function makeClient(id: string) {
  const client = { id, audiences: [apiAudience], scopes: ["orders:read"] };
  const secret = await addClient(fixture.database, client);
  fixture.keepSecret(secret);
  return { secret, headers: basic(id, secret) };
}

describe("a client is answered", () => {
  test("with an access token alone, which nobody stores", async () => {
    const answer = await post({}, shop);
    expect(answer.status).toBe(200);
    expect(answer.headers["content-type"]).toMatch(/^application\/json\b/);
    expect(answer.headers["cache-control"]).toBe("no-store");
    expect(parse(answer)).toEqual({
      access_token: expect.stringMatching(/^[\w-]+\.[\w-]+\.[\w-]{86}$/),
      token_type: "Bearer",
      expires_in: 420,
      scope: "orders:read orders:write",
    });
  });

  test("with a token of its own: it is the subject, and nobody signed in", async () => {
    const { claims } = await issue();
    expect(claims).toEqual({
      iss: fixture.issuer,
      sub: "shop",
      client_id: "shop",
      aud: apiAudience,
      scope: "orders:read orders:write",
      rid: expect.stringMatching(uuid),
      jti: expect.stringMatching(/^[\w-]{22}$/),
      iat: claims.iat,
      nbf: claims.iat,
      exp: Number(claims.iat) + 420,
    });
  });

  test("alike by Basic and by the form, of one standing session", async () => {
    const form = { client_id: "shop", client_secret: fixture.clientSecrets.shop };
    const [first, second, third] = [await issue(), await issue(form, {}), await issue({ client_id: "shop" })];
    expect(new Set([first, second, third].map(({ claims }) => claims["rid"])).size).toBe(1);
    expect(new Set([first, second, third].map(({ claims }) => claims.jti)).size).toBe(3);
  });

  test("of one standing session too where many ask at once for the first time", async () => {
    const { headers } = await makeClient("crowd");
    const all = await Promise.all(Array.from({ length: 8 }, () => issue({}, headers)));
    expect(new Set(all.map(({ claims }) => claims["rid"])).size).toBe(1);
    const { rows } = await fixture.database.pool.query(
      "select count(*)::int as sessions from keyfleet.sessions where client_id = 'crowd'",
    );
    expect(rows).toEqual([{ sessions: 1 }]);
  });

  test("of a new standing session when the old one is over", async () => {
    const { headers } = await makeClient("standing");
    const first = await issue({}, headers);
    expect((await fixture.send("POST", "/logout", bearer(first.access_token))).status).toBe(204);
    const second = await issue({}, headers);
    await fixture.database.pool.query("update keyfleet.sessions set expires_at = now() where id = $1", [
      second.claims["rid"],
    ]);
    const third = await issue({}, headers);
    expect(new Set([first, second, third].map(({ claims }) => claims["rid"])).size).toBe(3);
  });
});

describe("credentials in HTTP Basic", () => {
  // Every character that form-encoding touches, and those that Basic itself could take amiss.
  const id = "a:b%c+d/e=f&g~h";

  test("are form-encoded, part by part (RFC 6749, 2.3.1)", async () => {
    const { secret, headers } = await makeClient(id);
    const encodedThroughout = basicOf(
      [id, secret].map((part) => Buffer.from(part).toString("hex").replace(/../g, "%$&")).join(":"),
    );
    const lowerCaseScheme = { authorization: String(headers["authorization"]).replace("Basic", "bASIC") };
    for (const given of [headers, encodedThroughout, lowerCaseScheme]) {
      expect((await issue({}, given)).claims.sub).toBe(id);
    }
    expect((await issue({ client_id: id, client_secret: secret }, {})).claims.sub).toBe(id);
    await refuseClient({}, basicOf(`${id}:${secret}`));
  });

  test.each([
    ["without a colon", basicOf("shop")],
    ["of nothing", basicOf(":")],
    ["with a percent sign before what is no hex", basicOf("shop:%zz")],
    ["that are no UTF-8 when decoded", basicOf("shop:%ff")],
    ["that are no base64", { authorization: "Basic a*b" }],
    ["that are missing", { authorization: "Basic" }],
    ["of another scheme", { authorization: "Bearer abc" }],
  ])("%s fail", async (_name, headers) => {
    await refuseClient({}, headers);
  });

  test("and in the form at once are malformed (RFC 6749, 2.3)", async () => {
    const secret = fixture.clientSecrets.shop;
    await refuse("invalid_request", { client_id: "shop", client_secret: secret }, shop);
    await refuse("invalid_request", { client_secret: secret }, shop);
    await refuse("invalid_request", { client_id: "reports" }, shop);
  });

  test("in two Authorization headers are malformed", async () => {
    const line = `Authorization: ${shop["authorization"]}`;
    const type = `Content-Type: ${formType["content-type"]}`;
    const answer = await expectNothingDone(fixture, () =>
      sendLines(fixture, ["POST /token HTTP/1.1", type, line, line], "grant_type=client_credentials"),
    );
    expectBadRequest(answer, "invalid_request");
  });
});

describe("a client is refused", () => {
  test("alike, whatever of its credentials is wrong", async () => {
    const { shop: secret, reports } = fixture.clientSecrets;
    const wrong: [string, string][] = [
      ["shop", reports],
      ["shop", secret.slice(0, -1)],
      ["shop", `${secret} `],
      ["shop", secret.toUpperCase()],
      ["shop", ""],
      ["shop", "x\0"],
      ["SHOP", secret],
      ["nobody", secret],
      ["first-party", secret],
      ["x\0", secret],
      ["x".repeat(65), secret],
      ["é", secret],
    ];
    for (const [id, given] of wrong) {
      await refuseClient({}, basic(id, given));
    }
    const answers = await Promise.all(wrong.map(([id, given]) => post({}, basic(id, given))));
    expect(new Set(answers.map(({ body }) => body.toString())).size).toBe(1);
    for (const [id, given] of wrong.slice(0, 9)) await refuseClient({ client_id: id, client_secret: given });
  });

  test("where it gives no credentials, or half of them", async () => {
    await refuseClient({});
    await refuseClient({ client_id: "shop" });
    await refuseClient({ client_secret: fixture.clientSecrets.shop });
    await refuseClient({ client_id: "first-party" });
  });

  test("where its secret is in the query", async () => {
    const query = new URLSearchParams({ client_id: "shop", client_secret: fixture.clientSecrets.shop });
    expectInvalidClient(await fixture.postForm(`/token?${query}`, { grant_type: "client_credentials" }));
  });

  test("once it is removed, its tokens too; one of the same name starts anew", async () => {
    const { headers } = await makeClient("seasonal");
    const before = await issue({}, headers);
    expect(await createClientStore(fixture.database.pool).remove("seasonal", testActing)).toBe(true);
    await refuseClient({}, headers);
    const parameters = { token: before.access_token };
    expect(parse(await fixture.postForm("/introspect", parameters, shop))).toEqual({ active: false });
    const again = await makeClient("seasonal");
    await refuseClient({}, headers);
    const after = await issue({}, again.headers);
    expect(after.claims["rid"]).not.toBe(before.claims["rid"]);
    expect(parse(await fixture.postForm("/introspect", parameters, shop))).toEqual({ active: false });
    expect(parse(await fixture.postForm("/introspect", { token: after.access_token }, shop))).toMatchObject({
      active: true,
    });
  });
});

test("with a client every session through it ends: nobody would ask for its secret any more", async () => {
  const { headers, secret } = await makeClient("storefront");
  const credentials = { client_id: "storefront", client_secret: secret };
  const [through, direct] = [await fixture.login(credentials), await fixture.login()];
  const refresh = (token: string, more = {}, as = {}) =>
    fixture.postForm("/token", { grant_type: "refresh_token", refresh_token: token, ...more }, as);
  const standing = await issue({}, headers);
  await createClientStore(fixture.database.pool).remove("storefront", testActing);
  for (const more of [{ client_id: "storefront" }, {}]) {
    expectBadRequest(await refresh(through.refresh_token, more), "invalid_grant");
  }
  for (const token of [through.access_token, standing.access_token]) {
    expect(parse(await fixture.postForm("/introspect", { token }, shop))).toEqual({ active: false });
  }
  const { rows } = await fixture.database.pool.query(
    "select id from keyfleet.revocations where id = any ($1)",
    [[through.session_id, standing.claims["rid"], direct.session_id]],
  );
  expect(rows.map(({ id }) => id).sort()).toEqual([through.session_id, standing.claims["rid"]].sort());
  expect((await refresh(direct.refresh_token)).status).toBe(200);
});

describe("the audience", () => {
  test("is the client's first, or another of its own that is named", async () => {
    expect((await issue()).claims.aud).toBe(apiAudience);
    expect((await issue({ audience: "" })).claims.aud).toBe(apiAudience);
    expect((await issue({ audience: fixture.issuer })).claims.aud).toBe(fixture.issuer);
  });

  test.each([otherAudience, "https://elsewhere.example", `${apiAudience} `, "x\0"])(
    "%p is not the client's: invalid_target",
    async (audience) => {
      await refuse("invalid_target", { audience }, shop);
    },
  );

  test("the issuer is only the audience of a client that has it", async () => {
    const reports = basic("reports", fixture.clientSecrets.reports);
    await refuse("invalid_target", { audience: fixture.issuer }, reports);
    expect((await issue({}, reports)).scope).toBe("");
  });
});

describe("the scope", () => {
  test.each([
    ["", "orders:read orders:write"],
    ["orders:write", "orders:write"],
    ["keyfleet:admin", "keyfleet:admin"],
    ["orders:read  orders:read", "orders:read"],
  ])("asked for as '%s' is granted as '%s': administration only by its name", async (scope, granted) => {
    const { claims, scope: told } = await issue({ scope });
    expect([told, claims["scope"]]).toEqual([granted, granted]);
  });

  test.each(["orders:delete", "orders:read orders:delete", "ORDERS:READ", "*", '"', "a\tb", "é"])(
    "%p is no part of the client's: invalid_scope",
    async (scope) => {
      await refuse("invalid_scope", { scope }, shop);
    },
  );
});

test("from an address outside ISSUE_ALLOWED_CIDRS neither grant is given", async () => {
  const { refresh_token } = await fixture.login();
  const settings = { ISSUE_ALLOWED_CIDRS: "10.1.0.0/16" };
  const closed = await startInstance({ databaseUrl: fixture.database.url, settings });
  try {
    const forms = [{ grant_type: "client_credentials" }, { grant_type: "refresh_token", refresh_token }];
    for (const form of forms) {
      const answer = await sendRequest(closed.url, "/token", {
        method: "POST",
        headers: { ...formType, ...shop, "x-forwarded-for": "10.1.2.3" },
        body: new URLSearchParams(Object.entries(form)).toString(),
      });
      expectBadRequest(answer, "address_not_allowed", 403);
    }
  } finally {
    await closed.stop();
  }
});

describeFormRules({
  fixture: () => fixture,
  path: "/token",
  parameters: { grant_type: "client_credentials", client_id: "shop", client_secret: "x" },
  required: [],
  read: ["client_id", "client_secret", "scope", "audience"],
  takesJson: false,
});
describeOutage(
  () => fixture,
  async () => [() => post({}, shop)],
);
