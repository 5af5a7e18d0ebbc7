/** What an instance that is told to end still does for its clients. */

import { once } from "node:events";
import { get, type IncomingMessage, request } from "node:http";
import { json } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from "jose";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { addAccount, alice, eventually } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";

let database: TestDatabase;
let instance: TestInstance;

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  instance = await startInstance({ databaseUrl: database.url, settings: { SHUTDOWN_DRAIN: "3s" } });
});
afterAll(async () => {
  await instance.stop("SIGKILL");
  await database.drop();
});

/** What a balancer that connects anew learns. */
function readiness(): Promise<number | string | undefined> {
  return new Promise((resolve) => {
    get(`${instance.url}/readyz`, { agent: false }, (response) => resolve(response.resume().statusCode)).on(
      "error",
      (error: NodeJS.ErrnoException) => resolve(error.code),
    );
  });
}

/** A login of which the instance has read the head. */
async function beginLogin() {
  const { username, password } = alice;
  const body = JSON.stringify({ username, password });
  const headers = {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(body),
    expect: "100-continue",
  };
  const outgoing = request(`${instance.url}/login`, { method: "POST", agent: false, headers });
  await once(outgoing, "continue");
  const answer = once(outgoing, "response") as Promise<[IncomingMessage]>;
  // A connection that is cut, perhaps before anybody waits for the answer.
  answer.catch(() => undefined);
  return async () => {
    outgoing.end(body);
    const [response] = await answer;
    return { status: response.statusCode, body: (await json(response)) as TokenResponse };
  };
}

test("a login that is under way is done in full, even after the drain, in which all goes on but /readyz says no", async () => {
  const finishLogin = await beginLogin();
  const ended = instance.stop();
  await eventually(() => instance.output().includes('"msg":"draining"'));
  expect(await readiness()).toBe(503);
  const jwks = await fetch(`${instance.url}/.well-known/jwks.json`);
  const keys = createLocalJWKSet((await jwks.json()) as JSONWebKeySet);

  await eventually(async () => (await readiness()) === "ECONNREFUSED");
  const answer = await finishLogin();
  expect(answer.status).toBe(200);
  const { payload } = await jwtVerify(answer.body.access_token, keys, { issuer: instance.issuer });
  expect(payload["rid"]).toBe(answer.body.session_id);
  expect(await ended).toBe(0);
});
