/** requireAuth in front of a real Express application: what callers are answered, and what they are not told. */

import { request as httpRequest, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import express, { type RequestHandler } from "express";
import {
  createVerifier,
  requireAuth,
  type Verifier,
  type VerifierOptions,
} from "../../src/verifier/index.ts";
import { audience, createForger, type Forger, keyLifeSeconds, makeKey } from "./forger.ts";
import { type SmallIssuer, startSmallIssuer } from "./small-issuer.ts";

const nowSeconds = 1_800_000_000;
const now = () => nowSeconds * 1000;
let issuer: SmallIssuer;
let forger: Forger;
let server: Server;
const verifiers: Verifier[] = [];
const warnings: { readonly message: string; readonly details: object }[] = [];
/** Requests that got past the middleware. */
let admitted: number;

/** Where no credentials came: no error, but RFC 6750 §3 wants a parameter. */
const noError = 'Bearer realm="keyfleet"';

function startVerifier(options: Partial<VerifierOptions> = {}): Verifier {
  const verifier = createVerifier({
    issuer: issuer.url,
    audience,
    revocation: { whenStale: "reject" },
    now,
    ...options,
    logger: { warn: (message, details) => void warnings.push({ message, details }) },
  });
  verifiers.push(verifier);
  return verifier;
}

beforeAll(async () => {
  issuer = await startSmallIssuer({ now });
  const key = makeKey(nowSeconds + keyLifeSeconds);
  issuer.serveKey(key.kid, { jwk: key.jwk() });
  forger = createForger(issuer.url, key, nowSeconds);
  const verifier = startVerifier();
  await verifier.ready();
  await verifier.verify(forger.honest());
  const nowhere = startVerifier({ issuer: "http://127.0.0.1:9", revocation: null });
  const stale = startVerifier({ now: () => now() + 120_000 });
  await stale.ready();
  const tell: RequestHandler = (request, response) => {
    admitted += 1;
    response.json({ claims: request.auth.claims, scopes: request.auth.scopes });
  };
  const app = express();
  app.use(express.urlencoded());
  app.all("/any", requireAuth(verifier), tell);
  app.all("/read", requireAuth(verifier, { scope: "orders:read" }), tell);
  app.all("/both", requireAuth(verifier, { scope: "orders:read orders:write" }), tell);
  app.all("/both-listed", requireAuth(verifier, { scope: ["orders:read", "orders:write"] }), tell);
  app.all("/either", requireAuth(verifier, { anyScope: ["orders:write", "orders:admin"] }), tell);
  app.all("/mixed", requireAuth(verifier, { scope: "orders:read", anyScope: ["a", "b"] }), tell);
  app.all("/no-keys", requireAuth(nowhere), tell);
  app.all("/stale", requireAuth(stale), tell);
  app.all("/throws", requireAuth(verifier), () => {
    throw new Error("of the application itself");
  });
  app.use(((_error, _request, response, _next) => {
    response.status(500).json({ error: "application" });
  }) as express.ErrorRequestHandler);
  server = app.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
});

afterAll(async () => {
  for (const verifier of verifiers) await verifier.close();
  server?.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await issuer.close();
});

beforeEach(() => {
  admitted = 0;
  warnings.length = 0;
});

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

interface Sending {
  readonly authorization?: string | readonly string[];
  readonly method?: string;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** By node:http, which sends repeated headers as they are. */
function send(path: string, { authorization, method = "GET", body, headers }: Sending = {}): Promise<Answer> {
  const { port } = server.address() as AddressInfo;
  const all = { ...headers, ...(authorization === undefined ? {} : { authorization }) };
  return new Promise((resolve, reject) => {
    const sent = httpRequest({ port, host: "127.0.0.1", path, method, headers: all as never }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
      });
      response.once("end", () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text }),
      );
    });
    sent.once("error", reject);
    sent.end(body);
  });
}

const bearer = (token: string, path = "/any") => send(path, { authorization: `Bearer ${token}` });

function expectDenial(answer: Answer, status: number, error: string, challenge: string | undefined): void {
  expect(answer.status).toBe(status);
  expect(answer.headers["www-authenticate"]).toBe(challenge);
  expect(answer.headers["content-type"]).toBe("application/json");
  expect(answer.headers["cache-control"]).toBe("no-store");
  expect(answer.headers["retry-after"]).toBe(status === 503 ? "1" : undefined);
  expect(JSON.parse(answer.text)).toEqual({ error, error_description: expect.any(String) });
  expect(admitted).toBe(0);
}

describe("a good token", () => {
  test("lets the request through, with its claims and scopes", async () => {
    const answer = await bearer(forger.honest());
    expect(answer.status).toBe(200);
    expect(JSON.parse(answer.text)).toMatchObject({
      claims: { iss: issuer.url, aud: audience, client_id: "first-party" },
      scopes: ["orders:read", "orders:write"],
    });
    expect(warnings).toEqual([]);
  });

  test.each(["bearer", "BEARER", "Bearer  "])("may come by the scheme's name as %p", async (scheme) => {
    const answer = await send("/any", { authorization: `${scheme} ${forger.honest()}` });
    expect(answer.status).toBe(200);
  });

  test("leaves what the application throws to the application", async () => {
    const answer = await bearer(forger.honest(), "/throws");
    expect([answer.status, answer.text]).toEqual([500, '{"error":"application"}']);
  });
});

describe("without a token in the Authorization header", () => {
  test("the answer is 401 and names no error", async () => {
    expectDenial(await send("/any"), 401, "invalid_token", noError);
  });

  test.each(["Basic YTpi", "DPoP x", "Bearerx", "Negotiate", ""])("%p is no Bearer token", async (header) => {
    expectDenial(await send("/any", { authorization: header }), 401, "invalid_token", noError);
  });

  test("one in the query or in a form is not looked at", async () => {
    const token = forger.honest();
    const query = `/any?access_token=${token}`;
    expectDenial(await send(query), 401, "invalid_token", noError);
    const form = {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: `access_token=${token}`,
    };
    expectDenial(await send("/any", form), 401, "invalid_token", noError);
    expect((await bearer(token)).status).toBe(200);
  });

  test.each(["x-authorization", "proxy-authorization", "cookie", "x-forwarded-authorization"])(
    "one in %s is not looked at",
    async (name) => {
      const headers = { [name]: `Bearer ${forger.honest()}` };
      expectDenial(await send("/any", { headers }), 401, "invalid_token", noError);
    },
  );

  test("a good one in the query saves no bad one in the header", async () => {
    const answer = await bearer("x", `/any?access_token=${forger.honest()}`);
    expectDenial(answer, 401, "invalid_token", 'Bearer error="invalid_token"');
  });
});

describe("an Authorization header that is malformed", () => {
  const challenge = 'Bearer error="invalid_request"';

  test.each([
    "Bearer",
    "Bearer ",
    "Bearer a b",
    "Bearer a,b",
    'Bearer "a"',
    "Bearer a=b",
    "Bearer é",
    "Bearer a, Bearer b",
  ])("%p is a bad request", async (authorization) => {
    expectDenial(await send("/any", { authorization }), 400, "invalid_request", challenge);
  });

  test("or there twice, in whatever order, is a bad request though both were good", async () => {
    const good = `Bearer ${forger.honest()}`;
    for (const authorization of [
      [good, good],
      [good, "Bearer x"],
      ["Basic YTpi", good],
      [good, ""],
    ]) {
      expectDenial(await send("/any", { authorization }), 400, "invalid_request", challenge);
    }
    expect((await send("/any", { authorization: [good] })).status).toBe(200);
  });
});

describe("scopes", () => {
  const withScope = (scope: string | undefined, path: string) =>
    bearer(forger.forge({ claims: { scope } }), path);
  const denied = (needed: string) => `Bearer error="insufficient_scope", scope="${needed}"`;

  test.each([
    ["/read", "orders:read"],
    ["/read", "a orders:read b"],
    ["/both", "orders:write orders:read"],
    ["/both-listed", "orders:write  orders:read"],
    ["/either", "orders:write"],
    ["/either", "x orders:admin"],
    ["/mixed", "orders:read b"],
  ])("%s takes %p", async (path, scope) => {
    expect((await withScope(scope, path)).status).toBe(200);
  });

  test.each([
    ["/read", "", "orders:read"],
    ["/read", undefined, "orders:read"],
    ["/read", "orders:write", "orders:read"],
    ["/read", "orders:read2 xorders:read", "orders:read"],
    ["/read", "Orders:Read", "orders:read"],
    ["/read", "orders:read,orders:write", "orders:read"],
    ["/read", "orders:*", "orders:read"],
    ["/both", "orders:read", "orders:read orders:write"],
    ["/both-listed", "orders:write", "orders:read orders:write"],
    ["/either", "orders:read", "orders:write orders:admin"],
    ["/mixed", "orders:read", "orders:read a b"],
    ["/mixed", "a b", "orders:read a b"],
  ])("%s does not take %p", async (path, scope, needed) => {
    expectDenial(await withScope(scope, path), 403, "insufficient_scope", denied(needed));
    expect(warnings).toEqual([]);
  });
});

test("all faults of tokens look alike to the caller, and each is told to the logger, without the token", async () => {
  const faults = {
    malformed_token: "x",
    invalid_algorithm: forger.forge({ header: { alg: "none" } }),
    invalid_type: forger.forge({ header: { typ: "JWT" } }),
    unknown_key: forger.forge({ header: { kid: "A".repeat(43) } }),
    signature_failed: forger.forge({ signer: makeKey(0).sign }),
    token_expired: forger.forge({ claims: { iat: nowSeconds - 600, exp: nowSeconds - 5 } }),
    token_not_active: forger.forge({ claims: { nbf: nowSeconds + 60 } }),
    invalid_issuer: forger.forge({ claims: { iss: "https://id.example" } }),
    invalid_audience: forger.forge({ claims: { aud: "https://other.example" } }),
    missing_claim: forger.forge({ claims: { jti: undefined } }),
  };
  const texts = new Set<string>();
  for (const [code, token] of Object.entries(faults)) {
    warnings.length = 0;
    // Where a scope is needed too: what is known of a bad token's scope is not told either.
    const answer = await bearer(token, "/read");
    expectDenial(answer, 401, "invalid_token", 'Bearer error="invalid_token"');
    const { date, ...headers } = answer.headers;
    texts.add(JSON.stringify([headers, answer.text]));
    expect(warnings).toEqual([{ message: expect.any(String), details: { code } }]);
    if (token.length > 1) expect(JSON.stringify(warnings)).not.toContain(token.slice(0, 20));
  }
  expect(texts.size).toBe(1);
});

describe("where it cannot judge", () => {
  test.each([
    ["/no-keys", "keys_unavailable"],
    ["/stale", "revocation_stale"],
  ])("%s answers 503, to be tried again, and logs %s", async (path, code) => {
    expectDenial(await bearer(forger.honest(), path), 503, "temporarily_unavailable", undefined);
    expect(warnings).toEqual([{ message: expect.any(String), details: { code } }]);
  });

  test("a token that is bad in itself is refused all the same", async () => {
    expectDenial(await bearer("x", "/no-keys"), 401, "invalid_token", 'Bearer error="invalid_token"');
  });
});
