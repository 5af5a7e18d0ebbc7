import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { createFleetSecrets } from "../../src/fleet-secret.ts";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import type { RevocationSnapshot } from "../../src/protocol/revocation-event.ts";
import { createRefreshToken, encodeRefreshToken } from "../../src/tokens/refresh-token.ts";
import { addAccount, alice, eventually } from "../support/accounts.ts";
import {
  describeAccountTokenRules,
  describeBearerRules,
  expectBadRequest,
  expectNoContent,
  expectNoCredentials,
  expectNothingDone,
} from "./endpoint-answers.ts";
import {
  apiAudience,
  basic,
  bearer,
  type EndpointFixture,
  type Headers,
  parse,
  startEndpointFixture,
} from "./endpoint-fixture.ts";
import { describeFormRules, describeMethodRules, describeOutage } from "./endpoint-rules.ts";
import { moveSession } from "./moved-session.ts";

let fixture: EndpointFixture;

beforeAll(async () => {
  fixture = await startEndpointFixture();
});
afterAll(() => fixture.stop());

const logOut = (token: string) => fixture.send("POST", "/logout", bearer(token));
const logOutAll = (token: string, members: object = { all: true }) =>
  fixture.postJson("/logout", members, bearer(token));
const refresh = (refreshToken: string) =>
  fixture.postForm("/token", { grant_type: "refresh_token", refresh_token: refreshToken });

async function isAlive({ refresh_token }: TokenResponse): Promise<boolean> {
  return (await refresh(refresh_token)).status === 200;
}

/** How often each session is on the revocation log, as the instance tells it. */
async function revocationsOf(...sessionIds: string[]): Promise<number[]> {
  const { events } = parse<RevocationSnapshot>(await fixture.send("GET", "/revocations"));
  return sessionIds.map((id) => events.filter((event) => event.type === "session" && event.id === id).length);
}

async function expectEnded(tokens: TokenResponse): Promise<void> {
  expectBadRequest(await refresh(tokens.refresh_token), "invalid_grant");
  await eventually(async () => (await revocationsOf(tokens.session_id))[0] === 1);
}

const forms: [string, (tokens: TokenResponse) => ReturnType<typeof logOut>][] = [
  ["by its access token", ({ access_token }) => logOut(access_token)],
  ["by its access token, with an empty object", ({ access_token }) => logOutAll(access_token, {})],
  ["by its access token, with all false", ({ access_token }) => logOutAll(access_token, { all: false })],
  ["by its refresh token in JSON", ({ refresh_token }) => fixture.postJson("/logout", { refresh_token })],
  [
    "by its refresh token in a form",
    ({ refresh_token }) => fixture.postForm("/logout", { refresh_token, all: "false" }),
  ],
];

describe("a logout", () => {
  test.each(forms)("%s ends the session, no other, and is repeated without harm", async (_name, logout) => {
    const [tokens, other] = [await fixture.login(), await fixture.login()];
    expectNoContent(await logout(tokens));
    await expectEnded(tokens);
    expect((await fixture.send("GET", "/userinfo", bearer(tokens.access_token))).status).toBe(401);
    expectNoContent(await expectNothingDone(fixture, () => logout(tokens)));
    expect(await isAlive(other)).toBe(true);
    expect(await revocationsOf(tokens.session_id, other.session_id)).toEqual([1, 0]);
  });

  test("takes an access token of any audience, for it is the session's own", async () => {
    const tokens = await fixture.login({ audience: apiAudience });
    expectNoContent(await logOut(tokens.access_token));
    await expectEnded(tokens);
  });

  test("takes an older refresh token too, whose successor is lost", async () => {
    const tokens = await fixture.login();
    expect(await isAlive(tokens)).toBe(true);
    await moveSession(fixture.database, tokens.session_id, { usedAgoMs: 3_600_000 });
    expectNoContent(await fixture.postJson("/logout", { refresh_token: tokens.refresh_token }));
    await expectEnded(tokens);
  });

  test("takes the refresh token of a confidential client, without its secret", async () => {
    const client = { client_id: "shop", client_secret: fixture.clientSecrets.shop };
    const { refresh_token, access_token } = await fixture.login(client);
    expectNoContent(await fixture.postForm("/logout", { refresh_token }));
    expect((await fixture.send("GET", "/userinfo", bearer(access_token))).status).toBe(401);
  });

  test("is on record under the account, or the client, that the token is of", async () => {
    const person = await fixture.login();
    const grant = { grant_type: "client_credentials" };
    const client = await fixture.postForm("/token", grant, basic("shop", fixture.clientSecrets.shop));
    await logOut(person.access_token);
    await logOut(parse<TokenResponse>(client).access_token);
    const { rows } = await fixture.database.pool.query(
      `select e.actor, e.address, e.detail, coalesce('account:' || s.account_id, 'client:' || s.client_id) as owner
       from keyfleet.audit_events e join keyfleet.sessions s on s.id = e.session_id
       where e.event = 'session_ended' and (s.id = $1 or s.account_id is null) order by e.id`,
      [person.session_id],
    );
    expect(rows).toHaveLength(2);
    for (const { actor, address, detail, owner } of rows) {
      expect({ actor, address, detail }).toEqual({ actor: owner, address: "127.0.0.1", detail: "logout" });
    }
  });
});

describe("a logout of all sessions", () => {
  const ways: [string, (token: string) => ReturnType<typeof logOut>][] = [
    ["in JSON", (token) => logOutAll(token)],
    ["in a form", (token) => fixture.postForm("/logout", { all: "true" }, bearer(token))],
  ];

  test.each(ways)("%s ends every one of the account, this one too, and nobody else's", async (way, ask) => {
    const username = `all ${way}`;
    await addAccount(fixture.database.url, { ...alice, username });
    const own = [
      await fixture.login({ username }),
      await fixture.login({ username, client_id: "web", audience: apiAudience }),
      await fixture.login({ username }),
    ];
    const others = await fixture.login();
    const [first] = own;
    expectNoContent(await ask(first?.access_token ?? ""));
    for (const { session_id } of own) {
      await eventually(async () => (await revocationsOf(session_id))[0] === 1);
    }
    for (const { access_token } of own) {
      expect((await fixture.send("GET", "/userinfo", bearer(access_token))).status).toBe(401);
    }
    expect(await isAlive(others)).toBe(true);
    await fixture.login({ username });
  });

  test("takes an access token, not a refresh token alone", async () => {
    const { refresh_token } = await fixture.login();
    const ask = () => fixture.postJson("/logout", { all: true, refresh_token });
    expectNoCredentials(await expectNothingDone(fixture, ask));
  });

  test.each(['{"all":1}', '{"all":"yes"}', '{"all":null}', '{"all":[true]}', '{"all":true,"all":false}'])(
    "is not what %s asks for: malformed",
    async (body) => {
      const { access_token } = await fixture.login();
      const headers: Headers = { "content-type": "application/json", ...bearer(access_token) };
      const ask = () => fixture.send("POST", "/logout", headers, body);
      expectBadRequest(await expectNothingDone(fixture, ask), "invalid_request");
    },
  );
});

describe("nothing ends", () => {
  const another = createFleetSecrets(randomBytes(32));
  const madeUp = (sessionId: string, generation: number) =>
    encodeRefreshToken(another, { ...createRefreshToken(sessionId), generation });
  const rows: [string, (tokens: TokenResponse) => string][] = [
    ["an access token", ({ access_token }) => access_token],
    ["a token without its last character", ({ refresh_token }) => refresh_token.slice(0, -1)],
    ["a word", () => "x"],
    ["a made-up one for the session", ({ session_id }) => madeUp(session_id, 0)],
    ["another fleet's", ({ session_id }) => madeUp(session_id, 1)],
    ["one of the last generation that can be written", ({ session_id }) => madeUp(session_id, 2 ** 32 - 1)],
  ];

  test.each(rows)("by %s as refresh_token: invalid_grant", async (_name, make) => {
    const tokens = await fixture.login();
    const ask = () => fixture.postJson("/logout", { refresh_token: make(tokens) });
    expectBadRequest(await expectNothingDone(fixture, ask), "invalid_grant");
    expect(await isAlive(tokens)).toBe(true);
  });

  test("by a token in the query or by an access token in the body: they are not looked at", async () => {
    const { access_token, refresh_token } = await fixture.login();
    const query = new URLSearchParams({ refresh_token, access_token, all: "true" });
    await expectNothingDone(fixture, async () => {
      expectNoCredentials(await fixture.send("POST", `/logout?${query}`));
      expectNoCredentials(await fixture.postForm("/logout", { access_token, token: refresh_token }));
    });
  });
});

const endpoint = { fixture: () => fixture, method: "POST", target: "/logout", accepted: 204 };
describeBearerRules(endpoint);
describe("with all: true", () => {
  const all = { ...endpoint, body: JSON.stringify({ all: true }) };
  describeBearerRules(all);
  describeAccountTokenRules(all);
});
describeMethodRules({ fixture: () => fixture, path: "/logout", allowed: ["POST"] });
describeFormRules({
  fixture: () => fixture,
  path: "/logout",
  parameters: { refresh_token: "kfr_x" },
  required: [],
  read: ["refresh_token", "all"],
  takesJson: true,
});
describeOutage(
  () => fixture,
  async () => {
    const [one, two, three] = [await fixture.login(), await fixture.login(), await fixture.login()];
    return [
      () => logOut(one.access_token),
      () => fixture.postJson("/logout", { refresh_token: two.refresh_token }),
      () => logOutAll(three.access_token),
    ];
  },
);
