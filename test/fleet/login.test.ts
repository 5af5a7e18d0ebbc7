import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { createRemoteJWKSet, jwtVerify } from "jose";
import { addAccount, login } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { sharedJwks } from "./silent-fleet.ts";

let database: TestDatabase;
let instances: TestInstance[];

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  const settings = { ISSUER: "http://localhost:8080" };
  instances = await Promise.all([1, 2, 3].map(() => startInstance({ databaseUrl: database.url, settings })));
  await sharedJwks(instances);
});

afterAll(async () => {
  await Promise.all(instances.map((instance) => instance.stop()));
  await database.drop();
});

test("a token from each of three instances verifies through the JWKS of every other", async () => {
  for (const issuing of instances) {
    const { access_token } = await login(issuing.url);
    for (const serving of instances) {
      const keys = createRemoteJWKSet(new URL(`${serving.url}/.well-known/jwks.json`));
      const { payload } = await jwtVerify(access_token, keys, {
        issuer: "http://localhost:8080",
        audience: "http://localhost:8080",
        typ: "at+jwt",
      });
      expect(payload["client_id"]).toBe("first-party");
    }
  }
});

test("all three sign with different keys and serve the same bytes", async () => {
  const documents = await Promise.all(
    instances.map(async ({ url }) => {
      const response = await fetch(`${url}/.well-known/jwks.json`, {
        headers: { "accept-encoding": "identity" },
      });
      return { etag: response.headers.get("etag"), text: await response.text() };
    }),
  );
  expect(new Set(documents.map(({ etag }) => etag)).size).toBe(1);
  expect(new Set(documents.map(({ text }) => text)).size).toBe(1);
  expect(JSON.parse(documents[0]?.text ?? "").keys).toHaveLength(6);
});
