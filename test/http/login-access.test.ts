import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { addAccount, alice, eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { sendRequest } from "./raw-request.ts";
import { expectRefusal, linesOf } from "./refusal.ts";

const origin = "https://app.example";

let database: TestDatabase;
/** As it is without settings. */
let plain: TestInstance;
/** Takes logins from addresses that ours is none of, and believes no proxy. */
let closed: TestInstance;
/** The same behind a proxy on this machine; scripts of one origin may call it. */
let proxied: TestInstance;

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  const allowed = { ISSUE_ALLOWED_CIDRS: "10.1.0.0/16, 2001:db8::/32, 192.0.2.7" };
  const start = (settings: Readonly<Record<string, string>>) =>
    startInstance({ databaseUrl: database.url, settings: { LOGIN_ATTEMPTS: "10000", ...settings } });
  [plain, closed, proxied] = await Promise.all([
    start({}),
    start(allowed),
    start({ ...allowed, TRUST_PROXY: "loopback", CORS_ORIGINS: `${origin},https://other.example` }),
  ]);
});

afterAll(async () => {
  await Promise.all([plain, closed, proxied].map((instance) => instance.stop()));
  await database.drop();
});

function post(instance: TestInstance, headers: Readonly<Record<string, string>> = {}, members: object = {}) {
  const { username, password } = alice;
  return sendRequest(instance.url, "/login", {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ username, password, ...members }),
  });
}

describe("where ISSUE_ALLOWED_CIDRS leaves this address out", () => {
  test("login is refused, whatever X-Forwarded-For and its relatives say", async () => {
    expectRefusal(await post(closed), 403, "address_not_allowed");
    for (const name of ["x-forwarded-for", "x-real-ip", "forwarded", "client-ip"]) {
      const value = name === "forwarded" ? "for=10.1.2.3" : "10.1.2.3";
      expectRefusal(await post(closed, { [name]: value }), 403, "address_not_allowed");
    }
  });

  test("it is refused before anything is said about the credentials", async () => {
    expectRefusal(await post(closed, {}, { password: "wrong" }), 403, "address_not_allowed");
  });

  test("all else stays open", async () => {
    for (const path of ["/.well-known/jwks.json", "/.well-known/openid-configuration", "/readyz/issue"]) {
      expect((await sendRequest(closed.url, path)).status).toBe(200);
    }
  });
});

describe("behind a trusted proxy", () => {
  test.each([
    "10.1.2.3",
    "10.1.255.255",
    "::ffff:10.1.2.3",
    "2001:db8:ffff::1",
    "192.0.2.7",
    "203.0.113.1, 10.1.2.3",
    "203.0.113.1, 10.1.2.3, 127.0.0.1",
    "10.1.2.3:1234",
  ])("login is allowed from %s", async (forwarded) => {
    expect((await post(proxied, { "x-forwarded-for": forwarded })).status).toBe(200);
  });

  test.each([
    "10.2.0.1",
    "::ffff:10.2.0.1",
    "2001:db9::1",
    "192.0.2.8",
    "10.1.2.3, 203.0.113.1",
    "10.1.2.3, 203.0.113.1, 127.0.0.1",
    "not an address",
    "10.1.2.3, unknown",
    "",
  ])("login is refused from '%s'", async (forwarded) => {
    expectRefusal(await post(proxied, { "x-forwarded-for": forwarded }), 403, "address_not_allowed");
  });

  test("login is refused where the proxy names nobody", async () => {
    expectRefusal(await post(proxied), 403, "address_not_allowed");
  });
});

describe("the address of a login", () => {
  const recorded = async (sessionId: string) => {
    const { rows } = await database.pool.query("select address from keyfleet.sessions where id = $1", [
      sessionId,
    ]);
    return rows[0].address;
  };

  test("is the one a trusted proxy names, in the session and in the log", async () => {
    const headers = { "x-forwarded-for": "203.0.113.1, ::ffff:10.1.2.3", "x-request-id": "forwarded" };
    const answer = await post(proxied, headers);
    expect(await recorded(JSON.parse(answer.body.toString()).session_id)).toBe("10.1.2.3");
    await eventually(() => linesOf(proxied, "forwarded").length === 1);
    expect(linesOf(proxied, "forwarded")[0]?.["address"]).toMatch(/^(::ffff:)?10\.1\.2\.3$/);
  });

  test("is the peer's, where no proxy is trusted", async () => {
    const headers = { "x-forwarded-for": "203.0.113.1", "x-request-id": "not-forwarded" };
    const answer = await post(plain, headers);
    expect(await recorded(JSON.parse(answer.body.toString()).session_id)).toBe("127.0.0.1");
    await eventually(() => linesOf(plain, "not-forwarded").length === 1);
    expect(linesOf(plain, "not-forwarded")[0]?.["address"]).toBe("127.0.0.1");
  });
});

describe("scripts of other origins", () => {
  const preflight = (instance: TestInstance, from: string) =>
    sendRequest(instance.url, "/login", {
      method: "OPTIONS",
      headers: {
        origin: from,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
      },
    });
  const corsHeaders = (headers: object) =>
    Object.keys(headers).filter((name) => name.startsWith("access-control-allow"));

  test("may not log in, where CORS_ORIGINS names none", async () => {
    expectRefusal(await preflight(plain, origin), 405, "method_not_allowed");
    expect(corsHeaders((await preflight(plain, origin)).headers)).toEqual([]);
    expect(corsHeaders((await post(plain, { origin })).headers)).toEqual([]);
  });

  test("may where it names theirs, and read refusals too", async () => {
    const asked = await preflight(proxied, origin);
    expect(asked.status).toBe(204);
    expect(asked.headers).toMatchObject({
      "access-control-allow-origin": origin,
      "access-control-allow-methods": expect.stringContaining("POST"),
      "access-control-allow-headers": expect.stringMatching(/content-type/i),
      vary: expect.stringContaining("Origin"),
    });
    for (const headers of [{ origin }, { origin, "x-forwarded-for": "10.1.2.3" }]) {
      const answer = await post(proxied, headers);
      expect(answer.headers["access-control-allow-origin"]).toBe(origin);
      expect(answer.headers["access-control-expose-headers"]).toMatch(/Retry-After/);
      expect(answer.headers["access-control-allow-credentials"]).toBeUndefined();
    }
  });

  test.each(["https://evil.example", "null", "https://app.example.evil.example", "http://app.example"])(
    "may not where it names others: %s",
    async (from) => {
      for (const answer of [await preflight(proxied, from), await post(proxied, { origin: from })]) {
        expect(answer.headers["access-control-allow-origin"]).toBeUndefined();
        expect(answer.headers.vary).toContain("Origin");
      }
    },
  );
});

describe("every answer of the application", () => {
  const answers = () =>
    Promise.all([
      post(plain),
      post(plain, {}, { password: "wrong" }),
      sendRequest(plain.url, "/nothing"),
      sendRequest(plain.url, "/login"),
      sendRequest(plain.url, "/healthz"),
    ]);

  test("can be neither framed nor sniffed nor run, and does not say what made it", async () => {
    for (const { headers } of await answers()) {
      expect(headers).toMatchObject({
        "content-security-policy": expect.stringMatching(/default-src 'none'.*frame-ancestors 'none'/),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "strict-transport-security": expect.stringMatching(/^max-age=\d{8}/),
        "cache-control": "no-store",
      });
      expect(headers["x-powered-by"]).toBeUndefined();
      expect(headers["server"]).toBeUndefined();
    }
  });

  test("has a request id of its own, under which the log knows it", async () => {
    const ids = (await answers()).map(({ headers }) => String(headers["x-request-id"]));
    expect(new Set(ids).size).toBe(ids.length);
    await eventually(() => ids.every((id) => linesOf(plain, id).length === 1));
  });

  test("has the caller's request id, where that is a plain one", async () => {
    for (const given of ["a", "trace_1.2-3", "x".repeat(64)]) {
      expect((await post(plain, { "x-request-id": given })).headers["x-request-id"]).toBe(given);
    }
  });
});
