import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { addAccount, alice, eventually, login, postLogin } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { bearer, type Headers, jsonType } from "./endpoint-fixture.ts";
import { sendRequest } from "./raw-request.ts";
import { expectRefusal } from "./refusal.ts";

const attempts = 3;
const wrong = "a wrong password, quite long";
const fresh = "an entirely different phrase";
let database: TestDatabase;
let instance: TestInstance;

beforeAll(async () => {
  database = await freshDatabase();
  // More than one password wrong by one address would reach the address's own limit, ten times that of a name.
  for (const username of ["named", "holder", "both", "patient"]) {
    await addAccount(database.url, { ...alice, username });
  }
  instance = await startInstance({
    databaseUrl: database.url,
    settings: { LOGIN_ATTEMPTS: String(attempts) },
  });
});
afterAll(async () => {
  await instance.stop();
  await database.drop();
});

function change(members: object, headers: Headers = {}) {
  const body = JSON.stringify({ current_password: alice.password, new_password: fresh, ...members });
  return sendRequest(instance.url, "/password", {
    method: "POST",
    headers: { ...jsonType, ...headers },
    body,
  });
}

async function expectShut(username: string, headers: Headers = {}): Promise<void> {
  const answer = await change({ username }, headers);
  expectRefusal(answer, 429, "too_many_attempts");
  expect(Number(answer.headers["retry-after"])).toBeGreaterThan(60);
  expect((await postLogin(instance.url, { username })).status).toBe(429);
}

test("wrong old passwords count as failed logins: after so many even the right one is not looked at", async () => {
  for (let guess = 0; guess < attempts; guess += 1) {
    expectRefusal(await change({ username: "named", current_password: wrong }), 401, "invalid_credentials");
  }
  await expectShut("named");
});

test("they count with an access token too, so that a stolen one is no way to guess the password", async () => {
  const headers = bearer((await login(instance.url, { username: "holder" })).access_token);
  for (let guess = 0; guess < attempts; guess += 1) {
    expectRefusal(await change({ current_password: wrong }, headers), 401, "invalid_credentials");
  }
  await expectShut("holder", headers);
});

test("failures here and at login add up", async () => {
  expect((await postLogin(instance.url, { username: "both", password: wrong })).status).toBe(401);
  for (let guess = 1; guess < attempts; guess += 1) {
    expectRefusal(await change({ username: "both", current_password: wrong }), 401, "invalid_credentials");
  }
  await expectShut("both");
});

test("a right old password does not count, whether the new one may be set or not", async () => {
  const passwords = [alice.password, fresh, alice.password, fresh, alice.password];
  for (const [index, current_password] of passwords.slice(0, -1).entries()) {
    const weak = await change({ username: "patient", current_password, new_password: "short" });
    expectRefusal(weak, 400, "invalid_request");
    const changed = await change({
      username: "patient",
      current_password,
      new_password: passwords[index + 1],
    });
    expect(changed.status).toBe(204);
  }
  await eventually(async () => (await postLogin(instance.url, { username: "patient" })).status === 200);
});
