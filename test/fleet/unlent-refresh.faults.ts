/** A refresh whose signature could not be had the first time is tried again by the instance itself: that is no reuse. */

import { afterEach, beforeEach, expect, test } from "@jest/globals";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { addAccount, login } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, startInstance, type TestInstance } from "../support/instance.ts";
import { verifyThrough } from "./stock-verification.ts";

const settings = { ISSUER: "https://id.example", MAX_SIGNERS: "2", REFRESH_GRACE: "0s" };

let database: TestDatabase;
let started: TestInstance[];

async function start(): Promise<TestInstance> {
  const instance = await startInstance({ databaseUrl: database.url, settings });
  started.push(instance);
  return instance;
}

beforeEach(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  started = [];
});
afterEach(async () => {
  await Promise.all(started.map((instance) => instance.stop("SIGKILL")));
  await database.drop();
});

test("where no refresh token has a grace, one whose first lender does not answer is exchanged all the same", async () => {
  const [silent, lender] = await Promise.all([start(), start()]);
  const borrower = await start();
  const refresh = ({ refresh_token }: TokenResponse) =>
    fetch(`${borrower.url}/token`, {
      method: "POST",
      body: new URLSearchParams({ grant_type: "refresh_token", refresh_token }),
    });
  const unanswered = () => readMetric(borrower, 'keyfleet_signature_loans_total{outcome="unanswered"}');

  let latest = await login(borrower.url);
  silent.process.kill("SIGSTOP");
  while ((await unanswered()) === 0) {
    const answer = await refresh(latest);
    expect(answer.status).toBe(200);
    latest = (await answer.json()) as TokenResponse;
    await verifyThrough(lender, latest.access_token);
  }
  expect((await refresh(latest)).status).toBe(200);
  // A second use by the client is one as before, though it comes right after the first.
  expect((await refresh(latest)).status).toBe(400);
});
