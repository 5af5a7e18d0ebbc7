import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import { alice, manageAccounts } from "../support/accounts.ts";
import { describeAccountTokenRules, describeBearerRules, expectInvalidToken } from "./endpoint-answers.ts";
import { bearer, type EndpointFixture, parse, startEndpointFixture } from "./endpoint-fixture.ts";
import { describeMethodRules, describeOutage } from "./endpoint-rules.ts";

let fixture: EndpointFixture;

beforeAll(async () => {
  fixture = await startEndpointFixture();
});
afterAll(() => fixture.stop());

const ask = (token: string, method = "GET") => fixture.send(method, "/userinfo", bearer(token));

test("userinfo tells the account's id and its name, and nothing else", async () => {
  const { access_token: token } = await fixture.login({ username: "ALICE" });
  const answer = await ask(token);
  expect(answer.status).toBe(200);
  expect(answer.headers["content-type"]).toMatch(/^application\/json\b/);
  expect(answer.headers["cache-control"]).toBe("no-store");
  expect(parse(answer)).toEqual({ sub: decodeJwt(token).sub, preferred_username: alice.username });
});

test("HEAD is answered as GET is, without the body", async () => {
  const { access_token: token } = await fixture.login();
  const [head, get] = [await ask(token, "HEAD"), await ask(token)];
  expect(head).toMatchObject({ status: 200, body: Buffer.alloc(0) });
  expect(head.headers["content-length"]).toBe(String(get.body.length));
});

test("a token of the narrowest scope is enough: it is the account's own name", async () => {
  const { access_token: token } = await fixture.login({ scope: "orders:read" });
  expect((await ask(token)).status).toBe(200);
});

test("a disabled account's token is refused at once, and stays so when it is enabled again", async () => {
  const username = "gone";
  await manageAccounts(fixture.database.url, (accounts) => accounts.add(username, alice.password, []));
  const { access_token: token } = await fixture.login({ username });
  await manageAccounts(fixture.database.url, (accounts) => accounts.disable(username));
  expectInvalidToken(await ask(token));
  await manageAccounts(fixture.database.url, (accounts) => accounts.enable(username));
  expectInvalidToken(await ask(token));
});

const endpoint = { fixture: () => fixture, method: "GET", target: "/userinfo", accepted: 200 };
describeBearerRules(endpoint);
describeAccountTokenRules(endpoint);
describeMethodRules({ fixture: () => fixture, path: "/userinfo", allowed: ["GET", "HEAD"] });
describeOutage(
  () => fixture,
  async () => {
    const { access_token: token } = await fixture.login();
    return [() => ask(token)];
  },
);
