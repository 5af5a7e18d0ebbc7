import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import {
  calculateJwkThumbprint,
  createRemoteJWKSet,
  decodeJwt,
  decodeProtectedHeader,
  jwtVerify,
} from "jose";
import type { AccessTokenClaims } from "../../src/protocol/access-token.ts";
import type { Ed25519PublicJwk } from "../../src/protocol/jwk.ts";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { addAccount, alice, login, manageAccounts } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { sendRequest } from "./raw-request.ts";
import { expectRefusal } from "./refusal.ts";

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const ttlSeconds = 420;

let database: TestDatabase;
let instance: TestInstance;

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  instance = await startInstance({
    databaseUrl: database.url,
    settings: {
      ACCESS_TOKEN_TTL: `${ttlSeconds}s`,
      REFRESH_TOKEN_TTL: "40d",
      SESSION_TTL: "20d",
      AUDIENCES: "https://api.example,https://other.example",
      LOGIN_ATTEMPTS: "10000",
    },
  });
});

afterAll(async () => {
  await instance.stop();
  await database.drop();
});

const jsonType = { "content-type": "application/json" };
const formType = { "content-type": "application/x-www-form-urlencoded" };

function post(members: object, headers: Readonly<Record<string, string>> = jsonType) {
  const { username, password } = alice;
  const all = { username, password, ...members };
  const isForm = headers["content-type"] === formType["content-type"];
  const body = isForm ? new URLSearchParams(all).toString() : JSON.stringify(all);
  return sendRequest(instance.url, "/login", { method: "POST", headers, body });
}

function claimsOf({ access_token }: TokenResponse): AccessTokenClaims {
  return decodeJwt(access_token) as unknown as AccessTokenClaims;
}

async function databaseSeconds(): Promise<number> {
  const { rows } = await database.pool.query(
    "select floor(extract(epoch from pg_catalog.clock_timestamp()))::int as now",
  );
  return rows[0].now;
}

describe("a login is answered", () => {
  test("with exactly the members of the contract, which nobody stores", async () => {
    const answer = await post({});
    expect(answer.status).toBe(200);
    expect(answer.headers["content-type"]).toMatch(/^application\/json\b/);
    expect(answer.headers["cache-control"]).toBe("no-store");
    expect(JSON.parse(answer.body.toString())).toEqual({
      access_token: expect.stringMatching(/^[\w-]+\.[\w-]+\.[\w-]{86}$/),
      token_type: "Bearer",
      expires_in: ttlSeconds,
      refresh_token: expect.stringMatching(/^kfr_[\w-]{91}$/),
      refresh_expires_in: 20 * 24 * 60 * 60,
      scope: "orders:read orders:write",
      session_id: expect.stringMatching(uuid),
    });
  });

  test("alike for a form and for JSON", async () => {
    const [form, json] = [await post({}, formType), await post({})];
    expect(form.status).toBe(200);
    expect(Object.keys(JSON.parse(form.body.toString()))).toEqual(
      Object.keys(JSON.parse(json.body.toString())),
    );
  });

  test.each([["ALICE"], ["Alice"], ["\uff41\uff4c\uff49\uff43\uff45"], ["a\u2113ic\u212f"]])(
    "for %s as for alice: names are compared after NFKC in lower case",
    async (username) => {
      for (const headers of [jsonType, formType])
        expect((await post({ username }, headers)).status).toBe(200);
    },
  );

  test.each([[" alice"], ["alice "], ["alice\u200b"], ["\u0430lice"], ["al\u00edce"]])(
    "with a refusal for '%s', which is another name",
    async (username) => {
      expectRefusal(await post({ username }), 401, "invalid_credentials");
    },
  );
});

describe("the access token", () => {
  test("is an RFC 9068 token of at most 1 KiB that its own JWKS verifies", async () => {
    const before = await databaseSeconds();
    const tokens = await login(instance.url);
    const after = await databaseSeconds();
    const { rows } = await database.pool.query("select id from keyfleet.accounts where username = 'alice'");
    const claims = claimsOf(tokens);
    expect(claims).toEqual({
      iss: instance.issuer,
      sub: rows[0].id,
      aud: "https://api.example",
      exp: claims.iat + ttlSeconds,
      iat: claims.iat,
      nbf: claims.iat,
      jti: expect.stringMatching(/^[\w-]{22}$/),
      client_id: "first-party",
      scope: tokens.scope,
      rid: tokens.session_id,
      auth_time: expect.any(Number),
    });
    expect(claims.iat).toBeGreaterThanOrEqual(before);
    expect(claims.iat).toBeLessThanOrEqual(after);
    expect(claims.iat - Number(claims.auth_time)).toBeGreaterThanOrEqual(0);
    expect(claims.iat - Number(claims.auth_time)).toBeLessThanOrEqual(1);
    expect(Buffer.byteLength(tokens.access_token)).toBeLessThanOrEqual(1024);
    const keys = createRemoteJWKSet(new URL(`${instance.url}/.well-known/jwks.json`));
    await jwtVerify(tokens.access_token, keys, {
      issuer: instance.issuer,
      audience: "https://api.example",
      typ: "at+jwt",
      algorithms: ["EdDSA"],
    });
  });

  test("names the key by its thumbprint, and nothing else in its header", async () => {
    const { access_token } = await login(instance.url);
    const header = decodeProtectedHeader(access_token);
    expect(header).toEqual({ alg: "EdDSA", typ: "at+jwt", kid: expect.any(String) });
    const answer = await sendRequest(instance.url, `/.well-known/jwks/${header.kid}`);
    const jwk = JSON.parse(answer.body.toString()) as Ed25519PublicJwk;
    expect(await calculateJwkThumbprint({ ...jwk }, "sha256")).toBe(header.kid);
  });

  test("of every login has a session and an id of its own", async () => {
    const all = await Promise.all(Array.from({ length: 5 }, () => login(instance.url)));
    expect(new Set(all.map(({ session_id }) => session_id)).size).toBe(5);
    expect(new Set(all.map((tokens) => claimsOf(tokens).jti)).size).toBe(5);
    expect(new Set(all.map(({ refresh_token }) => refresh_token)).size).toBe(5);
  });

  test("carries the client that asked", async () => {
    expect(claimsOf(await login(instance.url, { client_id: "web~app!" })).client_id).toBe("web~app!");
  });
});

describe("the scope", () => {
  test.each([
    [undefined, "orders:read orders:write"],
    ["", "orders:read orders:write"],
    ["  ", "orders:read orders:write"],
    ["orders:write", "orders:write"],
    ["orders:write orders:write", "orders:write"],
    ["keyfleet:admin", "keyfleet:admin"],
    [" orders:read  keyfleet:admin ", "orders:read keyfleet:admin"],
  ])("asked for as '%s' is granted as '%s'", async (scope, granted) => {
    const tokens = await login(instance.url, { scope });
    expect(tokens.scope).toBe(granted);
    expect(claimsOf(tokens).scope).toBe(granted);
  });

  test.each([["orders:delete"], ["orders:read orders:delete"], ["ORDERS:READ"], ["orders:*"], ["*"]])(
    "%s is more than the account has: invalid_scope, and no session",
    async (scope) => {
      const count = "select count(*)::int as sessions from keyfleet.sessions";
      const before = (await database.pool.query(count)).rows[0].sessions;
      expectRefusal(await post({ scope }), 400, "invalid_scope");
      expect((await database.pool.query(count)).rows[0].sessions).toBe(before);
    },
  );

  test("that an account has is told to nobody without its password", async () => {
    for (const scope of ["orders:read", "orders:delete"]) {
      expectRefusal(await post({ scope, password: "not her password" }), 401, "invalid_credentials");
    }
  });

  test("is empty for an account that has only administration, until it is named", async () => {
    const username = "root";
    await addAccount(database.url, { ...alice, username, scopes: ["keyfleet:admin"] });
    expect((await login(instance.url, { username })).scope).toBe("");
    expect((await login(instance.url, { username, scope: "keyfleet:admin" })).scope).toBe("keyfleet:admin");
  });
});

describe("the audience", () => {
  test("is the first of AUDIENCES, another one that is named, or the issuer itself", async () => {
    expect(claimsOf(await login(instance.url)).aud).toBe("https://api.example");
    for (const audience of ["https://other.example", instance.issuer]) {
      expect(claimsOf(await login(instance.url, { audience })).aud).toBe(audience);
    }
  });

  test("can be no other: invalid_target", async () => {
    expectRefusal(await post({ audience: "https://elsewhere.example" }), 400, "invalid_target");
  });
});

test("parameters of a form that are sent without a value are as if they were not sent (RFC 6749, 3.1)", async () => {
  const answer = await post({ scope: "", audience: "", client_id: "" }, formType);
  expect(answer.status).toBe(200);
  const claims = claimsOf(JSON.parse(answer.body.toString()) as TokenResponse);
  expect(claims).toMatchObject({ aud: "https://api.example", client_id: "first-party" });
});

describe("an account", () => {
  test("that is disabled is refused as if its password were wrong, and logs in when enabled again", async () => {
    const username = "disabled";
    await addAccount(database.url, { ...alice, username });
    await manageAccounts(database.url, (accounts) => accounts.disable(username));
    const answer = await post({ username });
    expectRefusal(answer, 401, "invalid_credentials");
    expect(answer.body).toEqual((await post({ username: "nobody" })).body);
    await manageAccounts(database.url, (accounts) => accounts.enable(username));
    await login(instance.url, { username });
  });

  test("that must change its password is told so, once it has given the right one", async () => {
    const username = "newcomer";
    await addAccount(database.url, { ...alice, username });
    await manageAccounts(database.url, (accounts) => accounts.requirePasswordChange(username));
    expectRefusal(await post({ username }), 403, "password_change_required");
    expectRefusal(await post({ username, password: "not the password" }), 401, "invalid_credentials");
  });
});
