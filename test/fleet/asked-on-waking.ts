/** An instance that is stopped while the keys of another are published, and asked for their tokens before it can read. */

import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { addClient, basic } from "../http/endpoint-fixture.ts";
import { login } from "../support/accounts.ts";
import type { TestDatabase } from "../support/database.ts";
import type { TestInstance } from "../support/instance.ts";

export const issuer = "https://id.example";

export interface Answers {
  /** To a token, at `/userinfo` and `/introspect`; and to the revocation of another. */
  readonly userinfo: Response;
  readonly introspection: Response;
  readonly revocation: Response;
  /** What the instance that issued them says of both, after that. */
  readonly kept: number;
  readonly revoked: number;
}

export async function askOnWaking(
  database: TestDatabase,
  woken: TestInstance,
  startOther: () => Promise<TestInstance>,
): Promise<Answers> {
  const secret = await addClient(database, { id: "shop", audiences: [issuer], scopes: [] }, issuer);
  woken.process.kill("SIGSTOP");
  const other = await startOther();
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
