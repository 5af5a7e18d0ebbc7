import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import { createFleetSecrets } from "../../src/fleet-secret.ts";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import type { RevocationSnapshot } from "../../src/protocol/revocation-event.ts";
import { createRefreshToken, encodeRefreshToken } from "../../src/tokens/refresh-token.ts";
import { eventually } from "../support/accounts.ts";
import { expectBadRequest, expectInvalidClient, expectNothingDone, sendLines } from "./endpoint-answers.ts";
import {
  basic,
  basicOf,
  bearer,
  type EndpointFixture,
  formType,
  type Headers,
  parse,
  startEndpointFixture,
} from "./endpoint-fixture.ts";
import { describeFormRules, describeMethodRules, describeOutage } from "./endpoint-rules.ts";
import type { RawAnswer } from "./raw-request.ts";
import { createForger, type Forger, strangeTokens } from "./strange-tokens.ts";

let fixture: EndpointFixture;

beforeAll(async () => {
  fixture = await startEndpointFixture();
});
afterAll(() => fixture.stop());

const revoke = (token: string, parameters = {}, headers: Headers = {}) =>
  fixture.postForm("/revoke", { token, ...parameters }, headers);
const refresh = (refreshToken: string, headers: Headers = {}) =>
  fixture.postForm("/token", { grant_type: "refresh_token", refresh_token: refreshToken }, headers);
const isGood = async (token: string) =>
  (await fixture.send("GET", "/userinfo", bearer(token))).status === 200;

function expectRevoked(answer: RawAnswer): void {
  expect(answer).toMatchObject({ status: 200, body: Buffer.alloc(0) });
  expect(answer.headers["cache-control"]).toBe("no-store");
}

/** The answer is the same, and yet nothing was done. */
async function expectIgnored(ask: () => Promise<RawAnswer>): Promise<void> {
  expectRevoked(await expectNothingDone(fixture, ask));
}

async function expectRefused(ask: () => Promise<RawAnswer>): Promise<void> {
  expectBadRequest(await expectNothingDone(fixture, ask), "invalid_grant");
}

/** Waits until the instance tells that this is revoked. */
async function expectTold(type: string, id: unknown): Promise<void> {
  await eventually(async () => {
    const { events } = parse<RevocationSnapshot>(await fixture.send("GET", "/revocations"));
    return events.filter((event) => event.type === type && event.id === id).length === 1;
  });
}

const hints = ["", "access_token", "refresh_token", "id_token"];

describe("revoking", () => {
  test.each(hints)("an access token (hint '%s') ends it alone: its session goes on", async (hint) => {
    const tokens = await fixture.login();
    const second = parse<TokenResponse>(await refresh(tokens.refresh_token));
    expectRevoked(await revoke(tokens.access_token, { token_type_hint: hint }));
    expect(await isGood(tokens.access_token)).toBe(false);
    expect(await isGood(second.access_token)).toBe(true);
    expect((await refresh(second.refresh_token)).status).toBe(200);
    await expectTold("token", decodeJwt(tokens.access_token).jti);
    await expectIgnored(() => revoke(tokens.access_token));
  });

  test.each(hints)("a refresh token (hint '%s') ends its session, and every token of it", async (hint) => {
    const tokens = await fixture.login();
    expectRevoked(await revoke(tokens.refresh_token, { token_type_hint: hint }));
    expect(await isGood(tokens.access_token)).toBe(false);
    expectBadRequest(await refresh(tokens.refresh_token), "invalid_grant");
    await expectTold("session", tokens.session_id);
    await expectIgnored(() => revoke(tokens.refresh_token));
  });

  test("a refresh token that was used up ends its session too", async () => {
    const tokens = await fixture.login();
    const second = parse<TokenResponse>(await refresh(tokens.refresh_token));
    const third = parse<TokenResponse>(await refresh(second.refresh_token));
    expectRevoked(await revoke(tokens.refresh_token));
    expectBadRequest(await refresh(third.refresh_token), "invalid_grant");
  });

  test("a confidential client's tokens takes that client's authentication, by Basic or by form", async () => {
    const { shop } = fixture.clientSecrets;
    const client = { client_id: "shop", client_secret: shop };
    const [one, two] = [await fixture.login(client), await fixture.login(client)];
    expectRevoked(await revoke(one.access_token, {}, basic("shop", shop)));
    expect(await isGood(one.access_token)).toBe(false);
    expectRevoked(await revoke(two.refresh_token, client));
    expect(await isGood(two.access_token)).toBe(false);
  });

  test("a client's own access token leaves its standing session as it was", async () => {
    const shop = basic("shop", fixture.clientSecrets.shop);
    const issue = async () =>
      parse<TokenResponse>(await fixture.postForm("/token", { grant_type: "client_credentials" }, shop));
    const [one, two] = [await issue(), await issue()];
    expectRevoked(await revoke(one.access_token, {}, shop));
    const isActive = async ({ access_token: token }: TokenResponse) =>
      parse(await fixture.postForm("/introspect", { token }, shop))["active"];
    expect([await isActive(one), await isActive(two)]).toEqual([false, true]);
  });
});

describe("nothing is done, and the answer is 200 all the same,", () => {
  test("but for another client's token: that is refused, and the client told (RFC 7009, 2.1)", async () => {
    const { shop, reports } = fixture.clientSecrets;
    const own = await fixture.login({ client_id: "shop", client_secret: shop });
    const first = await fixture.login();
    for (const kind of ["access_token", "refresh_token"] as const) {
      await expectRefused(() => revoke(own[kind]));
      await expectRefused(() => revoke(own[kind], { client_id: "web" }));
      await expectRefused(() => revoke(own[kind], {}, basic("reports", reports)));
      await expectRefused(() => revoke(first[kind], { client_id: "web" }));
      await expectRefused(() => revoke(first[kind], {}, basic("shop", shop)));
    }
    expect(await isGood(own.access_token)).toBe(true);
    expect(await isGood(first.access_token)).toBe(true);
  });

  describe("for", () => {
    let forger: Forger;
    beforeAll(async () => {
      forger = await createForger(fixture);
    });

    test.each(strangeTokens.filter(({ name }) => name !== "a refresh token"))("$name", async ({ make }) => {
      const token = await make(forger);
      await expectIgnored(() => revoke(token));
    });
  });

  const another = createFleetSecrets(randomBytes(32));
  const madeUp = (sessionId: string, generation: number) =>
    encodeRefreshToken(another, { ...createRefreshToken(sessionId), generation });
  test.each([0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1])(
    "for another fleet's refresh token of generation %i, though it names a session",
    async (generation) => {
      const tokens = await fixture.login();
      await expectIgnored(() => revoke(madeUp(tokens.session_id, generation)));
      expect((await refresh(tokens.refresh_token)).status).toBe(200);
    },
  );

  test.each(["x", "é", "\0", "kfr_", "a".repeat(10_000)])("for the text %#", async (text) => {
    await expectIgnored(() => revoke(text));
  });
});

describe("a client that fails to authenticate is refused, and nothing is revoked:", () => {
  const rows: [string, (secret: string) => [object, Headers]][] = [
    ["without its secret", () => [{ client_id: "shop" }, {}]],
    ["with another's", () => [{ client_id: "shop", client_secret: fixture.clientSecrets.reports }, {}]],
    ["with a wrong one by Basic", (secret) => [{}, basic("shop", `${secret}x`)]],
    ["with Basic that cannot be read", () => [{}, { authorization: "Basic a*b" }]],
    ["with Basic without a colon", () => [{}, basicOf("shop")]],
    ["unknown", (secret) => [{ client_id: "nobody", client_secret: secret }, {}]],
    ["first-party, with a secret", (secret) => [{ client_id: "first-party", client_secret: secret }, {}]],
  ];

  test.each(rows)("%s", async (_name, make) => {
    const { shop } = fixture.clientSecrets;
    const { access_token: token } = await fixture.login({ client_id: "shop", client_secret: shop });
    const { access_token: first } = await fixture.login();
    const [parameters, headers] = make(shop);
    for (const given of [token, first]) {
      expectInvalidClient(await expectNothingDone(fixture, () => revoke(given, parameters, headers)));
    }
  });

  test.each(["a\0b", "a b", "é", "x".repeat(65)])("a client_id that can be none: %p", async (clientId) => {
    const { access_token: token } = await fixture.login();
    const answer = await expectNothingDone(fixture, () => revoke(token, { client_id: clientId }));
    expectBadRequest(answer, "invalid_request");
  });

  test("with both kinds of authentication, or two headers of one: malformed", async () => {
    const { shop } = fixture.clientSecrets;
    const { access_token: token } = await fixture.login({ client_id: "shop", client_secret: shop });
    const headers = basic("shop", shop);
    const both = { client_id: "shop", client_secret: shop };
    const line = `Authorization: ${headers["authorization"]}`;
    const lines = ["POST /revoke HTTP/1.1", `Content-Type: ${formType["content-type"]}`, line, line];
    await expectNothingDone(fixture, async () => {
      expectBadRequest(await revoke(token, both, headers), "invalid_request");
      expectBadRequest(await sendLines(fixture, lines, `token=${token}`), "invalid_request");
    });
  });
});

test("a token in the query is not looked at", async () => {
  const { access_token: token } = await fixture.login();
  const ask = () => fixture.send("POST", `/revoke?token=${token}`, formType);
  expectBadRequest(await expectNothingDone(fixture, ask), "invalid_request");
});

describeMethodRules({ fixture: () => fixture, path: "/revoke", allowed: ["POST"] });
describeFormRules({
  fixture: () => fixture,
  path: "/revoke",
  parameters: { token: "x" },
  required: ["token"],
  read: ["token", "token_type_hint", "client_id", "client_secret"],
  takesJson: false,
});
describeOutage(
  () => fixture,
  async () => {
    const [one, two] = [await fixture.login(), await fixture.login()];
    const shop = basic("shop", fixture.clientSecrets.shop);
    return [() => revoke(one.access_token), () => revoke(two.refresh_token), () => revoke("x", {}, shop)];
  },
);
