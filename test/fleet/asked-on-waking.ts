/** An instance that is stopped while the keys of another are published, and asked for their tokens before it can read. */

import { afterEach, beforeEach } from "@jest/globals";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { addClient, basic } from "../http/endpoint-fixture.ts";
import { addAccount, login } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";

const issuer = "https://id.example";

export interface Answers {
  /** To a token, at `/userinfo` and `/introspect`; and to the revocation of another. */
  readonly userinfo: Response;
  readonly introspection: Response;
  readonly revocation: Response;
  /** What the instance that issued them says of both, after that. */
  readonly kept: number;
  readonly revoked: number;
}

let database: TestDatabase;
let started: TestInstance[];

/** Called once in a file: a database for each of its tests, and the end of what it started. */
export function useWakingFleet(): void {
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
}

export async function startWith(syncInterval: string, untilReady = true): Promise<TestInstance> {
  const settings = { ISSUER: issuer, FLEET_SYNC_INTERVAL: syncInterval };
  const instance = await startInstance({ databaseUrl: database.url, settings, untilReady });
  started.push(instance);
  return instance;
}

/** The other's keys are published while `woken` is stopped. */
export async function askOnWaking(woken: TestInstance): Promise<Answers> {
  const secret = await addClient(database, { id: "shop", audiences: [issuer], scopes: [] }, issuer);
  woken.process.kill("SIGSTOP");
  const other = await startWith("200ms");
  const [kept, revoked] = [await login(other.url), await login(other.url)];
  const userinfo = ({ url }: TestInstance, { access_token }: TokenResponse) =>
    fetch(`${url}/userinfo`, { headers: { authorization: `Bearer ${access_token}` } });
  const post = (path: string, members: Record<string, string>, headers: Record<string, string> = {}) =>
    fetch(`${woken.url}${path}`, { method: "POST", body: new URLSearchParams(members), headers });
  // Sent while it cannot read them, so that it meets them before anything else.
  const answers = Promise.all([
    userinfo(woken, kept),
    post("/introspect", { token: kept.access_token }, basic("shop", secret)),
    post("/revoke", { token: revoked.access_token, client_id: "first-party" }),
  ]);
  await new Promise((resolve) => setTimeout(resolve, 500));
  woken.process.kill("SIGCONT");
  const [asked, introspection, revocation] = await answers;
  return {
    ...{ userinfo: asked, introspection, revocation },
    kept: (await userinfo(other, kept)).status,
    revoked: (await userinfo(other, revoked)).status,
  };
}
