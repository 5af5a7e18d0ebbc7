import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Ed25519PublicJwk } from "../../src/protocol/jwk.ts";
import { addAccount, eventually, postLogin } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetrics, startInstance, type TestInstance } from "../support/instance.ts";
import { type CountingProxy, startCountingProxy } from "./counting-proxy.ts";
import { type RawAnswer, sendRequest } from "./raw-request.ts";
import { expectRefusal } from "./refusal.ts";

let database: TestDatabase;
let proxy: CountingProxy;
let instance: TestInstance;
let jwkPath: string;

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  proxy = await startCountingProxy(database.url);
  // The default interval: of the fast one of other tests, a query for every request would not stand out.
  instance = await startInstance({ databaseUrl: proxy.url, settings: { FLEET_SYNC_INTERVAL: "500ms" } });
  jwkPath = `/.well-known/jwks/${await findKid("activates_at <= pg_catalog.clock_timestamp()")}`;
});

afterAll(async () => {
  await instance.stop();
  await proxy.close();
  await database.drop();
});

function get(path: string, headers: Readonly<Record<string, string>> = {}, method = "GET") {
  return sendRequest(instance.url, path, { method, headers });
}

async function publishedKeys(): Promise<Ed25519PublicJwk[]> {
  const { body } = await get(jwksPath);
  return (JSON.parse(body.toString()) as { keys: Ed25519PublicJwk[] }).keys;
}

async function findKid(condition: string): Promise<string> {
  const { rows } = await database.pool.query(`select kid from keyfleet.signing_keys where ${condition}`);
  return rows[0].kid;
}

const jwksPath = "/.well-known/jwks.json";
const documents = [
  { name: "the JWK Set", path: () => jwksPath, type: "application/jwk-set+json" },
  { name: "one JWK", path: () => jwkPath, type: "application/jwk+json" },
  { name: "OpenID metadata", path: () => "/.well-known/openid-configuration", type: "application/json" },
  { name: "OAuth metadata", path: () => "/.well-known/oauth-authorization-server", type: "application/json" },
];
const codings = [
  { coding: "gzip", decode: gunzipSync },
  { coding: "br", decode: brotliDecompressSync },
];

/** All headers but those that differ from one answer to the next. */
function headersOf({ headers }: RawAnswer) {
  const { date: _, connection: __, "keep-alive": ___, ...rest } = headers;
  return rest;
}

describe.each(documents)("$name", ({ path, type }) => {
  test("is public for anyone, any origin and any cache, under a strong ETag", async () => {
    const answer = await get(path());
    expect(answer.status).toBe(200);
    expect(headersOf(answer)).toEqual({
      "content-type": type,
      "content-length": String(answer.body.length),
      "cache-control": "public, max-age=300, s-maxage=30, stale-while-revalidate=30, stale-if-error=86400",
      vary: "Accept-Encoding",
      etag: expect.stringMatching(/^"[A-Za-z0-9_-]{20,}"$/),
      "access-control-allow-origin": "*",
      "access-control-expose-headers": "ETag",
      "x-content-type-options": "nosniff",
    });
  });

  test.each(codings)("in $coding is the same document under another ETag", async ({ coding, decode }) => {
    const plain = await get(path());
    const coded = await get(path(), { "accept-encoding": coding });
    expect(coded.headers["content-encoding"]).toBe(coding);
    expect(coded.headers["content-length"]).toBe(String(coded.body.length));
    expect(coded.headers.vary).toBe("Accept-Encoding");
    expect(decode(coded.body)).toEqual(plain.body);
    const again = await get(path(), { "accept-encoding": coding === "br" ? "gzip" : "br" });
    expect(new Set([plain, coded, again].map(({ headers }) => headers.etag)).size).toBe(3);
  });

  test.each([
    ["", undefined],
    ["identity", undefined],
    ["gzip;q=0", undefined],
    ["br;q=0, gzip;q=0.000", undefined],
    ["deflate, zstd", undefined],
    ["gzip", "gzip"],
    ["GZIP", "gzip"],
    ["gzip, deflate", "gzip"],
    ["br;q=0, gzip", "gzip"],
    ["gzip ; q=0.5", "gzip"],
    ["gzip, deflate, br", "br"],
    ["br;q=0.001", "br"],
    ["xgzip, brr", undefined],
  ])("for Accept-Encoding '%s' is sent in %s", async (accepted, coding) => {
    const answer = await get(path(), { "accept-encoding": accepted });
    expect(answer.headers["content-encoding"]).toBe(coding);
  });

  test.each(["", "gzip", "br"])(
    "HEAD tells what GET would, without the body (coding '%s')",
    async (coding) => {
      const headers = { "accept-encoding": coding };
      const [got, asked] = [await get(path(), headers), await get(path(), headers, "HEAD")];
      expect(asked.status).toBe(200);
      expect(asked.body).toHaveLength(0);
      expect(headersOf(asked)).toEqual(headersOf(got));
    },
  );

  test.each(["GET", "HEAD"])("%s is 304, without a body, for whoever has it already", async (method) => {
    const plain = String((await get(path())).headers.etag);
    const gzip = String((await get(path(), { "accept-encoding": "gzip" })).headers.etag);
    const having = [plain, gzip, `W/${plain}`, `"other", ${plain}`, `W/"other",W/${gzip}`, "*", ` * `];
    for (const ifNoneMatch of having) {
      for (const acceptEncoding of ["", "gzip"]) {
        const headers = { "if-none-match": ifNoneMatch, "accept-encoding": acceptEncoding };
        const answer = await get(path(), headers, method);
        expect({ ifNoneMatch, status: answer.status, bytes: answer.body.length }).toEqual({
          ...{ ifNoneMatch, status: 304, bytes: 0 },
        });
        expect(answer.headers).toMatchObject({
          etag: acceptEncoding === "gzip" ? gzip : plain,
          "cache-control": expect.stringMatching(/^public, max-age=300/),
          vary: "Accept-Encoding",
          "access-control-allow-origin": "*",
        });
      }
    }
  });

  test("is sent in full to whoever has another", async () => {
    const etag = String((await get(path())).headers.etag);
    for (const other of [
      '"other"',
      etag.slice(1, -1),
      etag.toLowerCase().toUpperCase(),
      `${etag}x`,
      "W/*",
      "",
    ]) {
      expect((await get(path(), { "if-none-match": other })).status).toBe(200);
    }
  });

  test("is the same behind a query string", async () => {
    for (const headers of [{}, { "accept-encoding": "gzip" }]) {
      const plain = await get(path(), headers);
      const queried = await get(`${path()}?cache=buster`, headers);
      expect(queried.status).toBe(200);
      expect(queried.body).toEqual(plain.body);
      expect(queried.headers).toMatchObject(headersOf(plain));
      const again = { ...headers, "if-none-match": String(plain.headers.etag) };
      expect((await get(`${path()}?cache=buster`, again)).status).toBe(304);
    }
  });

  test("may be asked for by a script of any origin, with headers of its own", async () => {
    const preflight = await get(
      path(),
      {
        origin: "https://app.example",
        "access-control-request-method": "GET",
        "access-control-request-headers": "if-none-match",
      },
      "OPTIONS",
    );
    expect(preflight.status).toBe(204);
    expect(preflight.headers).toMatchObject({
      "access-control-allow-origin": "*",
      "access-control-allow-headers": "if-none-match",
      "access-control-allow-methods": expect.stringMatching(/^GET, ?HEAD$/),
    });
    expect(preflight.headers["access-control-allow-credentials"]).toBeUndefined();
  });
});

test("the JWK Set has just the members a consumer may see, sorted by kid", async () => {
  const keys = await publishedKeys();
  expect(keys.length).toBeGreaterThanOrEqual(2);
  for (const key of keys) {
    expect(key).toEqual({
      ...{ kty: "OKP", crv: "Ed25519", alg: "EdDSA", use: "sig" },
      x: expect.stringMatching(/^[A-Za-z0-9_-]{43}$/),
      kid: expect.stringMatching(/^[A-Za-z0-9_-]{43}$/),
      exp: expect.any(Number),
    });
    expect(Number.isInteger(key.exp)).toBe(true);
    expect(key.exp * 1000).toBeGreaterThan(Date.now());
  }
  const kids = keys.map(({ kid }) => kid);
  expect(kids).toEqual([...kids].sort());
});

test("each key is also found alone, with the same members", async () => {
  for (const key of await publishedKeys()) {
    expect(JSON.parse((await get(`/.well-known/jwks/${key.kid}`)).body.toString())).toEqual(key);
  }
});

test("both metadata documents are one, and say what is true", async () => {
  const [openid, oauth] = await Promise.all(documents.slice(2).map(({ path }) => get(path())));
  expect(openid?.body).toEqual(oauth?.body);
  const { issuer } = instance;
  const methods = ["client_secret_basic", "client_secret_post"];
  const metadata = JSON.parse(String(openid?.body));
  expect(metadata).toEqual({
    issuer,
    jwks_uri: `${issuer}${jwksPath}`,
    token_endpoint: `${issuer}/token`,
    revocation_endpoint: `${issuer}/revoke`,
    introspection_endpoint: `${issuer}/introspect`,
    userinfo_endpoint: `${issuer}/userinfo`,
    revocation_events_endpoint: `${issuer}/revocations`,
    response_types_supported: [],
    grant_types_supported: ["refresh_token", "client_credentials"],
    token_endpoint_auth_methods_supported: [...methods, "none"],
    revocation_endpoint_auth_methods_supported: [...methods, "none"],
    introspection_endpoint_auth_methods_supported: methods,
    subject_types_supported: ["public"],
    id_token_signing_alg_values_supported: ["EdDSA"],
  });
  for (const member of Object.keys(metadata).filter((name) => /_(uri|endpoint)$/.test(name))) {
    const answer = await get(metadata[member].slice(issuer.length));
    expect({ member, status: answer.status }).not.toEqual({ member, status: 404 });
  }
});

test("a kid that is not published is unknown, which nobody stores, and any script may learn", async () => {
  for (const headers of [{}, { "if-none-match": "*" }]) {
    const answer = await get(`/.well-known/jwks/${"A".repeat(43)}`, headers);
    expectRefusal(answer, 404, "unknown_key");
    expect(answer.headers["access-control-allow-origin"]).toBe("*");
  }
});

test("a revoked key is gone from the set and answered by 410, which nobody stores", async () => {
  const before = await publishedKeys();
  // The next one: what signs, and what other tests read, stays.
  const kid = await findKid("activates_at > pg_catalog.clock_timestamp() and revoked_at is null");
  const path = `/.well-known/jwks/${kid}`;
  const { etag } = (await get(path)).headers;
  await database.pool.query(
    "update keyfleet.signing_keys set revoked_at = pg_catalog.clock_timestamp() where kid = $1",
    [kid],
  );
  await eventually(async () => (await get(path)).status !== 200);
  for (const headers of [{}, { "if-none-match": String(etag) }]) {
    const answer = await get(path, headers);
    expectRefusal(answer, 410, "revoked_key");
    expect(answer.headers["access-control-allow-origin"]).toBe("*");
  }
  expect((await publishedKeys()).map((key) => key.kid)).not.toContain(kid);
  // Another takes its place; until then documents would change under the other tests.
  await eventually(async () => (await publishedKeys()).length === before.length);
});

test("documents are counted by name and status, in front of Express and behind it", async () => {
  const kinds = ["jwks 200", "jwks 304", "jwk 200", "jwk 404", "metadata 200"];
  const metrics = kinds
    .map((kind) => kind.split(" "))
    .map(([name, status]) => `keyfleet_documents_served_total{document="${name}",status="${status}"}`);
  const before = await readMetrics(instance, metrics);
  await get(jwksPath);
  await get(`${jwksPath}?x=1`);
  await get(jwksPath, { "if-none-match": "*" });
  await get(jwkPath);
  await get(`/.well-known/jwks/${"A".repeat(43)}`);
  for (const { path } of documents.slice(2)) await get(path());
  const after = await readMetrics(instance, metrics);
  expect(after.map((count, kind) => count - (before[kind] ?? 0))).toEqual([2, 1, 1, 1, 2]);
});

test("no request for a document, and none for an unknown kid, asks the database anything", async () => {
  const requests = 500;
  const paths = [jwksPath, jwkPath, "/.well-known/openid-configuration", `${jwksPath}?x=1`];
  const before = proxy.messages();
  for (let number = 0; number < requests; number += 1) {
    const unknownKid = String(number).padStart(43, "k");
    await Promise.all([get(String(paths[number % paths.length])), get(`/.well-known/jwks/${unknownKid}`)]);
  }
  // What goes on unasked: readings of the state, heartbeats, probes of LISTEN.
  expect(proxy.messages() - before).toBeLessThan(requests / 10);

  // Control: what does ask the database is counted.
  const beforeLogins = proxy.messages();
  await Promise.all(Array.from({ length: 5 }, () => postLogin(instance.url)));
  expect(proxy.messages() - beforeLogins).toBeGreaterThanOrEqual(5 * 3);
});
