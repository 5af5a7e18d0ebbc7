import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { addAccount, alice, eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { getBytes, sendBytes, sendRequest } from "./raw-request.ts";
import { expectRefusal, linesOf, logLines } from "./refusal.ts";

let database: TestDatabase;
let instance: TestInstance;

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  instance = await startInstance({ databaseUrl: database.url });
});

afterAll(async () => {
  await instance.stop();
  await database.drop();
});

const kid = "k".repeat(43);
const readable = ["GET", "HEAD"];
const documents = [
  "/.well-known/jwks.json",
  `/.well-known/jwks/${kid}`,
  "/.well-known/openid-configuration",
  "/.well-known/oauth-authorization-server",
];
const endpoints = [
  ...documents.map((path) => ({ path, allowed: readable, preflight: true })),
  ...["/healthz", "/readyz", "/readyz/issue", "/revocations", "/revocations/stream"].map((path) => ({
    ...{ path, allowed: readable, preflight: false },
  })),
  { path: "/login", allowed: ["POST"], preflight: false },
];
const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH"];

function allowedIn(header: string | undefined): string[] {
  return (header ?? "").split(",").map((method) => method.trim());
}

describe("a method that a path does not take is 405, with those that it takes in Allow:", () => {
  const wrong = endpoints.flatMap(({ path, allowed, preflight }) =>
    methods
      .filter((method) => !allowed.includes(method) && !(preflight && method === "OPTIONS"))
      .flatMap((method) => [path, `${path}?x=1`].map((target) => ({ method, target, allowed }))),
  );

  test.each(wrong)("$method $target", async ({ method, target, allowed }) => {
    const answer = await sendRequest(instance.url, target, { method });
    if (method === "HEAD") {
      expect(answer).toMatchObject({ status: 405, body: Buffer.alloc(0) });
    } else expectRefusal(answer, 405, "method_not_allowed");
    expect(allowedIn(answer.headers.allow)).toEqual(expect.arrayContaining(allowed));
    expect(allowedIn(answer.headers.allow)).not.toContain(method);
  });

  test.each(["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])("%s /metrics, on its port", async (method) => {
    const answer = await sendRequest(instance.metricsUrl, "/metrics", { method });
    expectRefusal(answer, 405, "method_not_allowed");
    expect(allowedIn(answer.headers.allow)).toEqual(readable);
  });

  test("a body sent with it changes nothing", async () => {
    const answer = await sendRequest(instance.url, "/healthz", { method: "POST", body: "x".repeat(100_000) });
    expectRefusal(answer, 405, "method_not_allowed");
  });
});

describe("a path with nothing behind it is 404:", () => {
  const paths = [
    "/",
    "/login.json",
    "/login/x",
    "/LOGIN",
    "//login",
    "/healthz/x",
    "/readyz/x",
    "/metrics",
    "/.well-known",
    "/.well-known/jwks",
    "/.well-known/jwks.json.",
    "/.well-known/JWKS.json",
    "/.well-known/../login",
    "/%6cogin/x",
    "/%00",
    "/%zz",
    "/%",
    "/%c0%ae%c0%ae/",
    "/__proto__",
    "/constructor",
    `/${"a".repeat(10_000)}`,
  ];
  const withMethods = paths.flatMap((path) => ["GET", "POST", "DELETE"].map((method) => ({ method, path })));

  test.each(withMethods)("$method $path", async ({ method, path }) => {
    expectRefusal(await sendRequest(instance.url, path, { method }), 404, "not_found");
  });

  // These are no other spelling of a document's path, for caches, nor a path that takes other methods than GET.
  test.each(documents.filter((path) => !path.endsWith(kid)))("GET %s/", async (path) => {
    expectRefusal(await sendRequest(instance.url, `${path}/`), 404, "not_found");
  });

  test.each(["/", "/metrics/", "/metrics.json", "/login", "/%zz", "/healthz"])(
    "GET %s, on the port of /metrics",
    async (path) => {
      expectRefusal(await sendRequest(instance.metricsUrl, path), 404, "not_found");
    },
  );
});

describe("a kid that can be none is an unknown key:", () => {
  test.each(["", "%zz", "%00", "a/b", `${kid}x`, `${kid}/`, "__proto__", "..", "a".repeat(10_000)])(
    "%s",
    async (text) => {
      const answer = await sendRequest(instance.url, `/.well-known/jwks/${text}`);
      expectRefusal(answer, 404, "unknown_key");
    },
  );

  test("broken percent-encoding beside a query is no more than malformed", async () => {
    const answer = await sendRequest(instance.url, "/.well-known/jwks/%zz?x=%zz");
    if (answer.status === 400) expectRefusal(answer, 400, "invalid_request");
    else expectRefusal(answer, 404, "unknown_key");
  });
});

describe("a request target that is no path", () => {
  test.each(["http://[::1/", "http://", "http://a:b:c/", "https://user@[/login"])(
    "is refused as everything else, not by a page of HTML: %s",
    async (target) => {
      const answer = await sendBytes(instance.url, getBytes(target));
      expect(answer).toMatch(/^HTTP\/1\.1 40[04] /);
      expect(answer).toContain("\r\nContent-Type: application/json\r\n");
      expect(answer).not.toMatch(/<html|Cannot GET/);
    },
  );

  test("names the path where it is absolute", async () => {
    const answer = await sendBytes(instance.url, getBytes("http://elsewhere.example/healthz"));
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
  });

  test.each([["CONNECT a.example:443"], ["OPTIONS *"]])("leaves the server unharmed: %s", async (start) => {
    const answer = await sendBytes(instance.url, `${start} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    expect(answer).toMatch(/^$|^HTTP\/1\.1 40[045] /);
    expect((await fetch(`${instance.url}/healthz`)).status).toBe(200);
  });
});

describe("headers", () => {
  test.each([
    ["one header over 16 KiB", 431, getBytes("/healthz", `X-Long: ${"a".repeat(17_000)}`)],
    [
      "headers over 16 KiB together",
      431,
      getBytes("/healthz", ...Array(600).fill(`X-Many: ${"a".repeat(30)}`)),
    ],
    ["a request line over 16 KiB", 431, getBytes(`/${"a".repeat(17_000)}`)],
    ["ESC in a header", 400, getBytes("/healthz", "User-Agent: \x1b[2J")],
    ["NUL in a header", 400, getBytes("/healthz", "User-Agent: a\0b")],
    ["a lone CR in a header", 400, getBytes("/healthz", "User-Agent: a\rb")],
    ["two lengths", 400, getBytes("/healthz", "Content-Length: 1", "Content-Length: 2")],
    ["a length and chunks", 400, getBytes("/healthz", "Content-Length: 1", "Transfer-Encoding: chunked")],
    ["a method nobody knows", 400, "KEYFLEET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"],
    ["no HTTP at all", 400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"],
  ])("%s are refused with %i, though they never become a request", async (_name, status, bytes) => {
    const answer = await sendBytes(instance.url, bytes);
    expect(answer).toMatch(
      new RegExp(`^HTTP/1\\.1 ${status} .*\\r\\n\\r\\n\\{"error":"invalid_request",.*\\}$`, "s"),
    );
    expect((await fetch(`${instance.url}/healthz`)).status).toBe(200);
    expect(instance.process.exitCode).toBeNull();
  });

  test("that lack Host are refused by Node itself, without a body", async () => {
    const answer = await sendBytes(instance.url, "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n");
    expect(answer).toMatch(/^HTTP\/1\.1 400 .*\r\n\r\n$/s);
  });

  test("that expect what nobody knows are refused with 417", async () => {
    const answer = await sendBytes(instance.url, getBytes("/healthz", "Expect: miracles"));
    expect(answer).toMatch(/^HTTP\/1\.1 417 .*\{"error":"invalid_request",.*\}/s);
  });

  test("10,000 characters of user agent log in, and 256 of them are kept", async () => {
    const { username, password } = alice;
    const answer = await sendRequest(instance.url, "/login", {
      method: "POST",
      headers: { "content-type": "application/json", "user-agent": "\xe9".repeat(10_000) },
      body: JSON.stringify({ username, password }),
    });
    expect(answer.status).toBe(200);
    const { rows } = await database.pool.query("select user_agent from keyfleet.sessions");
    expect(rows).toEqual([{ user_agent: "\xe9".repeat(256) }]);
  });

  test.each([
    ["with characters it may not have", 'a","level":"fatal"'],
    ["with bytes beyond ASCII", "\xff\xfe"],
    ["of 65 characters", "a".repeat(65)],
    ["that is empty", ""],
  ])("a request id %s is replaced", async (_name, given) => {
    const answer = await sendRequest(instance.url, "/healthz", { headers: { "x-request-id": given } });
    const used = String(answer.headers["x-request-id"]);
    expect(used).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/);
    await eventually(() => linesOf(instance, used).length === 1);
  });
});

test("whatever the path and the headers say, the log has one line of JSON a request", async () => {
  const targets = ["/a%0d%0ab%1b%5b2J", '/"}{"level":"fatal"}', "/%22,%22a%22:1", "//a//b", "/a?secret=b"];
  for (const [index, target] of targets.entries()) {
    const headers = [
      `X-Request-Id: line-${index}`,
      'User-Agent: \xff\xfe"}{\t\\u000a',
      "X-Forwarded-For: \xff, a, ,,",
    ];
    await sendBytes(instance.url, getBytes(target, ...headers));
  }
  await eventually(() => linesOf(instance, `line-${targets.length - 1}`).length > 0);
  const paths = targets.map((_target, index) => linesOf(instance, `line-${index}`).map(({ path }) => path));
  expect(paths).toEqual([
    ["/a%0d%0ab%1b%5b2J"],
    ['/"}{"level":"fatal"}'],
    ["/%22,%22a%22:1"],
    ["//a//b"],
    ["/a"],
  ]);
  expect(logLines(instance).every(({ level }) => level === "info" || level === "warn")).toBe(true);
});
