import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import { createFleetSecrets } from "../../src/fleet-secret.ts";
import { createClientStore } from "../../src/postgres/clients.ts";
import { createPublishedKeyStore } from "../../src/postgres/signing-keys.ts";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { createRefreshToken, encodeRefreshToken } from "../../src/tokens/refresh-token.ts";
import { runCommand } from "../cli/run-command.ts";
import { addAccount, alice, eventually, manageAccounts, postLogin, testActing } from "../support/accounts.ts";
import {
  addClient,
  apiAudience,
  basic,
  bearer,
  type EndpointFixture,
  startEndpointFixture,
} from "./endpoint-fixture.ts";
import { moveSession } from "./moved-session.ts";
import { createForger } from "./strange-tokens.ts";

interface Event {
  readonly event: string;
  readonly detail: string | null;
  readonly actor: string | null;
  readonly instance_id: string | null;
  readonly address: string | null;
}

let fixture: EndpointFixture;
let accountId: string;

beforeAll(async () => {
  fixture = await startEndpointFixture();
  accountId = decodeJwt((await fixture.login()).access_token).sub ?? "";
});
afterAll(() => fixture.stop());

/** What is on record of `work`, once an event that is written behind it is there too. */
async function eventsOf(work: () => Promise<unknown>): Promise<readonly Event[]> {
  const { pool } = fixture.database;
  const { rows } = await pool.query("select coalesce(max(id), 0) as id from keyfleet.audit_events");
  await work();
  let events: readonly Event[] = [];
  await postLogin(fixture.instance.url, { username: "the last one", audience: "x" });
  await eventually(async () => {
    const found = await pool.query<Event>(
      `select event, detail, actor, instance_id, address from keyfleet.audit_events where id > $1 order by id`,
      [rows[0].id],
    );
    events = found.rows;
    return events.at(-1)?.detail === "invalid_target";
  });
  return events.slice(0, -1);
}

const refresh = (refreshToken: string, parameters = {}, headers = {}) =>
  fixture.postForm(
    "/token",
    { grant_type: "refresh_token", refresh_token: refreshToken, ...parameters },
    headers,
  );
const madeUp = ({ session_id }: TokenResponse) =>
  encodeRefreshToken(createFleetSecrets(randomBytes(32)), createRefreshToken(session_id));
const logOut = ({ access_token }: TokenResponse, members = {}) =>
  fixture.postJson("/logout", members, bearer(access_token));

/** As `event`, or `event: detail`. */
const named = ({ event, detail }: Event) => (detail === null ? event : `${event}: ${detail}`);

/** What is asked of the instance, in a new session; who acts, where it is known; and what is on record. */
const acts: [string, (own: TokenResponse) => Promise<unknown>, "account" | "client" | null, string[]][] = [
  ["a login", () => fixture.login(), "account", ["login"]],
  [
    "a wrong password",
    () => postLogin(fixture.instance.url, { password: "no" }),
    null,
    ["login_refused: invalid_credentials"],
  ],
  ["a refresh", (own) => refresh(own.refresh_token), "client", []],
  ["a made-up refresh token", (own) => refresh(madeUp(own)), "client", ["refresh_refused: unknown"]],
  ["no refresh token at all", () => refresh("x\ny\u2028z"), "client", ["refresh_refused: malformed"]],
  [
    "a refresh token of another client",
    (own) => refresh(own.refresh_token, { client_id: "web" }),
    "client",
    ["refresh_refused: other_client"],
  ],
  [
    "a refresh for more scope",
    (own) => refresh(own.refresh_token, { scope: "more" }),
    "client",
    ["refresh_refused: scope_exceeded"],
  ],
  ["a logout", (own) => logOut(own), "account", ["session_ended: logout"]],
  [
    "a logout by refresh token",
    (own) => fixture.postJson("/logout", { refresh_token: own.refresh_token }),
    null,
    ["session_ended: logout"],
  ],
  [
    "an ending by the owner",
    (own) => fixture.send("DELETE", `/sessions/${own.session_id}`, bearer(own.access_token)),
    "account",
    ["session_ended: ended_by_owner"],
  ],
  [
    "a revoked refresh token",
    (own) => fixture.postForm("/revoke", { token: own.refresh_token }),
    "client",
    ["session_ended: revoked"],
  ],
  ["a client's wrong secret", () => refresh("x", {}, basic("shop", "wrong")), null, ["client_refused"]],
  ["a client without its secret", () => refresh("x", { client_id: "shop" }), null, ["client_refused"]],
  [
    "a client whose credentials are malformed",
    () => fixture.postForm("/introspect", { token: "x" }, { authorization: "Basic x" }),
    null,
    ["client_refused"],
  ],
  [
    "a client's first token",
    () =>
      fixture.postForm(
        "/token",
        { grant_type: "client_credentials" },
        basic("shop", fixture.clientSecrets.shop),
      ),
    "client",
    ["login"],
  ],
  [
    "a password change with a wrong one",
    (own) =>
      fixture.postJson(
        "/password",
        { current_password: "no", new_password: "a new one, quite long" },
        bearer(own.access_token),
      ),
    null,
    ["password_change_refused: invalid_credentials"],
  ],
];

describe("one row for", () => {
  test.each(acts)("%s", async (_, act, actor, expected) => {
    const own = await fixture.login();
    const events = await eventsOf(() => act(own));
    expect(events.map(named)).toEqual(expected);
    for (const event of events) {
      expect(event).toMatchObject({ instance_id: fixture.instance.instanceId, address: "127.0.0.1" });
      if (actor === null) expect(event.actor).toBeNull();
      else if (actor === "account") expect(event.actor).toBe(`account:${accountId}`);
      else expect(event.actor).toMatch(/^client:(first-party|shop|web)$/);
    }
  });

  test("a refresh repeated, and one reused", async () => {
    const own = await fixture.login();
    await refresh(own.refresh_token);
    expect((await eventsOf(() => refresh(own.refresh_token))).map(named)).toEqual(["refresh_repeated"]);
    await moveSession(fixture.database, own.session_id, { usedAgoMs: 60_000 });
    const events = await eventsOf(() => refresh(own.refresh_token));
    expect(events.map(named)).toEqual(["session_ended: refresh_token_reused", "refresh_refused: reused"]);
  });

  test("a revoked access token, and a forged one, that name the token and the key", async () => {
    const own = await fixture.login();
    const revoked = await eventsOf(() => fixture.postForm("/revoke", { token: own.access_token }));
    expect(revoked.map(named)).toEqual([`token_revoked: ${decodeJwt(own.access_token).jti}`]);
    const forger = await createForger(fixture);
    const forged = await eventsOf(() => fixture.send("GET", "/userinfo", bearer(forger.forge())));
    expect(forged.map(named)).toEqual(["token_forged"]);
  });

  test("an ending of all sessions and a new password, and one for each session that ends by them", async () => {
    const username = "many";
    await addAccount(fixture.database.url, { ...alice, username });
    const [first] = [await fixture.login({ username }), await fixture.login({ username })];
    expect((await eventsOf(() => logOut(first, { all: true }))).map(named)).toEqual([
      "all_sessions_ended",
      "session_ended: all_sessions_ended",
      "session_ended: all_sessions_ended",
    ]);
    const [own] = [await fixture.login({ username }), await fixture.login({ username })];
    const passwords = { current_password: alice.password, new_password: "a new one, quite long" };
    const changed = await eventsOf(() => fixture.postJson("/password", passwords, bearer(own.access_token)));
    expect(changed.map(named)).toEqual(["password_set", "session_ended: password_set"]);
    fixture.keepSecret(passwords.new_password);
  });

  test("everything that is typed", async () => {
    const { database } = fixture;
    const { pool, url } = database;
    const events = await eventsOf(async () => {
      await addClient(database, { id: "typed", audiences: [apiAudience], scopes: [] });
      await createClientStore(pool).remove("typed", testActing);
      await manageAccounts(url, async (accounts) => {
        await accounts.add("typed", alice.password, []);
        await accounts.grant("typed", "a");
        await accounts.withdraw("typed", "a");
        await accounts.requirePasswordChange("typed");
        await accounts.setPassword("typed", "a new one, quite long");
        await accounts.disable("typed");
        await accounts.enable("typed");
        await accounts.endAllSessions("typed");
      });
    });
    expect(events.map(named)).toEqual([
      ...["client_added", "client_removed", "account_added", "scope_granted", "scope_withdrawn"],
      ...["password_change_required", "password_set", "account_disabled", "account_enabled"],
      "all_sessions_ended",
    ]);
    for (const event of events) {
      expect(event).toMatchObject({ actor: "command", instance_id: null, address: null });
    }
  });
});

test("keyfleet audit shows the latest, a line each whatever was sent, and no secret", async () => {
  const events = await eventsOf(async () => {
    await postLogin(fixture.instance.url, { username: "a\nb\u001b[2J", password: "typed here by mistake" });
    await refresh("x\ny", { client_id: "web" });
  });
  expect(events.map(named)).toEqual(["login_refused: invalid_request", "refresh_refused: malformed"]);
  fixture.keepSecret("typed here by mistake");
  const settings = { DATABASE_URL: fixture.database.url };
  const table = await runCommand(["audit", "--limit", "5"], { settings });
  expect(table.stdout.trim().split("\n")).toHaveLength(6);
  for (const sent of ["mistake", "\u001b"]) expect(table.stdout).not.toContain(sent);
  const json = await runCommand(["audit", "--limit", "3", "--json"], { settings });
  const shown = JSON.parse(json.stdout) as (Event & { at: string })[];
  expect(shown.map(named)).toEqual([...events.map(named), "login_refused: invalid_target"]);
  expect(Date.parse(shown[0]?.at ?? "")).toBeGreaterThan(Date.now() - 60_000);
});

test("one row for each step of a key", async () => {
  const { instanceId } = fixture.instance;
  const { pool } = fixture.database;
  const steps = async () => {
    const { rows } = await pool.query(
      `select event, kid, detail, actor from keyfleet.audit_events
         where kid is not null and event like 'key%' and kid in
           (select kid from keyfleet.signing_keys where instance_id = $1) order by id`,
      [instanceId],
    );
    return rows;
  };
  const published = await steps();
  expect(new Set(published.map(({ event }) => event))).toEqual(new Set(["key_published"]));
  for (const { actor } of published) expect(actor).toBe(`instance:${instanceId}`);
  await createPublishedKeyStore(pool).revokeInstanceKeys(instanceId, false, "tried out", testActing);
  const revoked = (await steps()).filter(({ event }) => event === "key_revoked");
  expect(revoked.map(({ kid }) => kid)).toEqual(expect.arrayContaining(published.map(({ kid }) => kid)));
  expect(revoked[0]).toMatchObject({ actor: "command", detail: "tried out" });
});
