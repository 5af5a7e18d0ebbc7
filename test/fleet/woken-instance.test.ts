/** What an instance says of tokens whose key was published while it was stopped: nothing, before it has read again. */

import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { addClient, basic } from "../http/endpoint-fixture.ts";
import { addAccount, login } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";

const issuer = "https://id.example";

let database: TestDatabase;
let started: TestInstance[];

beforeEach(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  started = [];
});
afterEach(async () => {
  for (const instance of started) instance.process.kill("SIGCONT");
  await Promise.all(started.map((instance) => instance.stop("SIGKILL")));
  await database.drop();
});

async function start(): Promise<TestInstance> {
  const settings = { ISSUER: issuer, FLEET_SYNC_INTERVAL: "200ms" };
  const instance = await startInstance({ databaseUrl: database.url, settings });
  started.push(instance);
  return instance;
}

test("a token of a key that it does not know yet is no unknown token: what is asked on waking is answered from a new reading", async () => {
  const secret = await addClient(database, { id: "shop", audiences: [issuer], scopes: [] }, issuer);
  const woken = await start();
  woken.process.kill("SIGSTOP");
  const other = await start();
  const [kept, revoked] = [await login(other.url), await login(other.url)];
  const bearer = { authorization: `Bearer ${kept.access_token}` };
  const form = (members: Record<string, string>) => ({
    method: "POST",
    body: new URLSearchParams(members),
  });
  // Sent while it cannot read them, so that it meets them before anything else.
  const answers = Promise.all([
    fetch(`${woken.url}/userinfo`, { headers: bearer }),
    fetch(`${woken.url}/introspect`, {
      ...form({ token: kept.access_token }),
      headers: basic("shop", secret),
    }),
    fetch(`${woken.url}/revoke`, form({ token: revoked.access_token, client_id: "first-party" })),
  ]);
  await new Promise((resolve) => setTimeout(resolve, 500));
  woken.process.kill("SIGCONT");
  const [userinfo, introspected, revocation] = await answers;
  expect([userinfo.status, introspected.status, revocation.status]).toEqual([200, 200, 200]);
  expect(await introspected.json()).toMatchObject({ active: true });
  const ofRevoked = { authorization: `Bearer ${revoked.access_token}` };
  expect((await fetch(`${other.url}/userinfo`, { headers: ofRevoked })).status).toBe(401);
  expect((await fetch(`${other.url}/userinfo`, { headers: bearer })).status).toBe(200);
});
