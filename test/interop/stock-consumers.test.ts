import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from "jose";
import { addAccount, alice, eventually, login } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { expressOauth2JwtBearer } from "./express-consumer.ts";
import {
  awsJwtVerify,
  fastJwtWithGetJwks,
  jose,
  oauth4webapi,
  type StockConsumer,
  type Trust,
} from "./stock-consumers.ts";
import { startTlsFront, type TlsFront } from "./tls-front.ts";

const audience = "https://api.example";
const otherAudience = "https://other.example";

let database: TestDatabase;
let instance: TestInstance;
let tlsFront: TlsFront;

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  const settings = { AUDIENCES: `${audience},${otherAudience}` };
  instance = await startInstance({ databaseUrl: database.url, settings });
  tlsFront = await startTlsFront(instance.url);
});

afterAll(async () => {
  await tlsFront?.close();
  await instance?.stop();
  await database?.drop();
});

interface Case {
  readonly name: string;
  create(trust: Trust): Promise<StockConsumer>;
  /** How it says why: a refusal for another reason would prove nothing. */
  readonly badSignature: RegExp;
  readonly wrongAudience: RegExp;
}

const cases: readonly Case[] = [
  {
    name: "jose",
    create: jose,
    badSignature: /^signature verification failed$/,
    wrongAudience: /^unexpected "aud" claim value$/,
  },
  {
    name: "aws-jwt-verify",
    create: awsJwtVerify,
    badSignature: /^Invalid signature$/,
    wrongAudience: /^Audience not allowed/,
  },
  {
    name: "fast-jwt with get-jwks",
    create: fastJwtWithGetJwks,
    badSignature: /^The token signature is invalid/,
    wrongAudience: /^The aud claim value is not allowed/,
  },
  {
    name: "oauth4webapi, OpenID Connect discovery",
    create: (trust) => oauth4webapi(trust, "oidc"),
    badSignature: /^JWT signature verification failed$/,
    wrongAudience: /^unexpected JWT "aud"/,
  },
  {
    name: "oauth4webapi, RFC 8414 discovery",
    create: (trust) => oauth4webapi(trust, "oauth2"),
    badSignature: /^JWT signature verification failed$/,
    wrongAudience: /^unexpected JWT "aud"/,
  },
  {
    name: "express-oauth2-jwt-bearer",
    create: expressOauth2JwtBearer,
    badSignature: /error_description="signature verification failed"/,
    wrongAudience: /error_description="Unexpected 'aud' value"/,
  },
];

describe.each(cases)("$name, with default settings", ({ create, badSignature, wrongAudience }) => {
  let consumer: StockConsumer;

  beforeEach(async () => {
    consumer = await create({ issuer: instance.issuer, audience, tlsFront });
  });

  afterEach(() => consumer.close());

  test("accepts a token from a login", async () => {
    const { access_token } = await login(instance.url);
    const { rows } = await database.pool.query("select id from keyfleet.accounts where username = $1", [
      alice.username,
    ]);
    await expect(consumer.verify(access_token)).resolves.toBe(rows[0].id);
  });

  test("refuses a token with one changed character in its payload, for its signature", async () => {
    const { access_token } = await login(instance.url, { scope: "orders:read" });
    await expect(consumer.verify(changeScope(access_token))).rejects.toThrow(badSignature);
  });

  test("refuses a token for another audience, for its audience", async () => {
    const { access_token } = await login(instance.url, { audience: otherAudience });
    await expect(consumer.verify(access_token)).rejects.toThrow(wrongAudience);
  });
});

test("a token of a revoked key is good to all that know the key until their caches end, and to none that starts then", async () => {
  const trust = { issuer: instance.issuer, audience, tlsFront };
  const jwksUrl = new URL(`${instance.issuer}/.well-known/jwks.json`);
  const { access_token: token } = await login(instance.url);
  const warm = await Promise.all(cases.map(({ create }) => create(trust)));
  const briefMs = 2500;
  const brief = createRemoteJWKSet(jwksUrl, { cacheMaxAge: briefMs });
  await Promise.all([...warm.map((consumer) => consumer.verify(token)), jwtVerify(token, brief)]);
  const readAtMs = performance.now();
  await database.pool.query("select keyfleet.revoke_instance_keys($1, false, 'test', null)", [
    instance.instanceId,
  ]);
  const { kid = "" } = decodeProtectedHeader(token);
  await eventually(async () => !(await (await fetch(jwksUrl)).text()).includes(kid));
  await Promise.all([...warm.map((consumer) => consumer.verify(token)), jwtVerify(token, brief)]);
  const cold = await Promise.all(cases.map(({ create }) => create(trust)));
  for (const consumer of cold) await expect(consumer.verify(token)).rejects.toThrow();
  await eventually(() =>
    jwtVerify(token, brief).then(
      () => false,
      () => true,
    ),
  );
  const refusedAfterMs = performance.now() - readAtMs;
  console.log(
    `${warm.length} stock consumers took a token of a key that had left the JWKS; ` +
      `jose with a cache of ${briefMs} ms refused it ${refusedAfterMs.toFixed(0)} ms after it had read the set`,
  );
  expect(refusedAfterMs).toBeGreaterThan(briefMs / 2);
  await Promise.all([...warm, ...cold].map((consumer) => consumer.close()));
});

/** One character of the claims' text; all else about the token stays as it has to be. */
function changeScope(token: string): string {
  const [header, payload = "", signature] = token.split(".");
  const claims = Buffer.from(payload, "base64url").toString();
  const changed = claims.replace("orders:read", "orders:reap");
  expect(changed).not.toBe(claims);
  return [header, Buffer.from(changed).toString("base64url"), signature].join(".");
}
