import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import type { RevocationSnapshot } from "../../src/protocol/revocation-event.ts";
import { addAccount, alice, eventually } from "../support/accounts.ts";
import {
  describeAccountTokenRules,
  describeBearerRules,
  expectBadRequest,
  expectNoContent,
  expectNothingDone,
} from "./endpoint-answers.ts";
import {
  apiAudience,
  basic,
  bearer,
  type EndpointFixture,
  jsonType,
  parse,
  startEndpointFixture,
} from "./endpoint-fixture.ts";
import { describeMethodRules, describeOutage } from "./endpoint-rules.ts";
import { moveSession } from "./moved-session.ts";
import { expectRefusal } from "./refusal.ts";

interface Listing {
  readonly sessions: readonly Readonly<Record<string, unknown>>[];
}

let fixture: EndpointFixture;

beforeAll(async () => {
  fixture = await startEndpointFixture();
});
afterAll(() => fixture.stop());

const list = ({ access_token }: TokenResponse) => fixture.send("GET", "/sessions", bearer(access_token));
const end = ({ access_token }: TokenResponse, id: string) =>
  fixture.send("DELETE", `/sessions/${id}`, bearer(access_token));
const idsOf = async (tokens: TokenResponse) =>
  parse<Listing>(await list(tokens)).sessions.map(({ id }) => id);

/** An account of this test's own, so that its list is what the test made of it. */
async function newcomer() {
  const username = `newcomer ${randomUUID()}`;
  await addAccount(fixture.database.url, { ...alice, username });
  return (members = {}) => fixture.login({ username, ...members });
}

async function logInFrom(username: string, userAgent: string): Promise<TokenResponse> {
  const headers = { ...jsonType, "user-agent": userAgent };
  const members = { ...alice, username, audience: fixture.issuer };
  return parse(await fixture.send("POST", "/login", headers, JSON.stringify(members)));
}

describe("the list", () => {
  test("tells of each session when, where and by what, and which one asks; nobody stores it", async () => {
    const login = await newcomer();
    const first = await login({ client_id: "web", audience: apiAudience });
    const second = await login();
    const answer = await list(second);
    expect(answer.status).toBe(200);
    expect(answer.headers["content-type"]).toMatch(/^application\/json\b/);
    expect(answer.headers["cache-control"]).toBe("no-store");
    const common = { address: "127.0.0.1", user_agent: "node" };
    const times = (tokens: TokenResponse) => {
      const { auth_time } = decodeJwt(tokens.access_token);
      return { created_at: auth_time, last_used_at: auth_time };
    };
    const others = { ...common, ...times(first), id: first.session_id, client_id: "web", current: false };
    const own = {
      ...common,
      ...times(second),
      id: second.session_id,
      client_id: "first-party",
      current: true,
    };
    expect(parse(answer)).toEqual({ sessions: [own, others] });
  });

  test("has the latest used first, by when its tokens were refreshed", async () => {
    const login = await newcomer();
    const [older, newer] = [await login(), await login()];
    await moveSession(fixture.database, older.session_id, { usedAgoMs: 60_000 });
    expect(await idsOf(newer)).toEqual([newer.session_id, older.session_id]);
    const form = { grant_type: "refresh_token", refresh_token: older.refresh_token };
    expect((await fixture.postForm("/token", form)).status).toBe(200);
    expect(await idsOf(newer)).toEqual([older.session_id, newer.session_id]);
  });

  test("has only live ones: none that was ended, is idle for too long, or at its absolute end", async () => {
    const login = await newcomer();
    const own = await login();
    const [ended, idle, over] = [await login(), await login(), await login()];
    expect(await idsOf(own)).toHaveLength(4);
    await fixture.send("POST", "/logout", bearer(ended.access_token));
    expect(await idsOf(own)).toHaveLength(3);
    await moveSession(fixture.database, idle.session_id, { usedAgoMs: 30 * 24 * 3_600_000 });
    await moveSession(fixture.database, over.session_id, { endsInMs: 0 });
    expect(await idsOf(own)).toEqual([own.session_id]);
  });

  test("has only the account's own", async () => {
    const [one, other] = [await newcomer(), await newcomer()];
    const [own, others] = [await one(), await other()];
    expect(await idsOf(own)).toEqual([own.session_id]);
    expect(await idsOf(others)).toEqual([others.session_id]);
  });

  test("tells what the browser called itself, as text", async () => {
    const username = "strange agent";
    await addAccount(fixture.database.url, { ...alice, username });
    const tokens = await logInFrom(username, '<script>alert("x")</script>\\u0000');
    const answer = await list(tokens);
    expect(parse<Listing>(answer).sessions[0]?.["user_agent"]).toBe('<script>alert("x")</script>\\u0000');
    expect(answer.headers["content-type"]).toMatch(/^application\/json\b/);
    expect(answer.headers["x-content-type-options"]).toBe("nosniff");
  });

  test("HEAD is answered as GET is, without the body", async () => {
    const { access_token } = await (await newcomer())();
    const head = await fixture.send("HEAD", "/sessions", bearer(access_token));
    expect(head).toMatchObject({ status: 200, body: Buffer.alloc(0) });
  });
});

describe("ending one", () => {
  test("is answered with 204 once it is committed, and told to every verifier; the others go on", async () => {
    const login = await newcomer();
    const [own, lost, third] = [await login(), await login(), await login()];
    expectNoContent(await end(own, lost.session_id));
    expect((await list(lost)).status).toBe(401);
    const form = { grant_type: "refresh_token", refresh_token: lost.refresh_token };
    expectBadRequest(await fixture.postForm("/token", form), "invalid_grant");
    expect(await idsOf(own)).toEqual([third.session_id, own.session_id]);
    await eventually(async () => {
      const { events } = parse<RevocationSnapshot>(await fixture.send("GET", "/revocations"));
      return events.some(({ type, id }) => type === "session" && id === lost.session_id);
    });
  });

  test("may be this one", async () => {
    const own = await (await newcomer())();
    expectNoContent(await end(own, own.session_id));
    expect((await list(own)).status).toBe(401);
  });

  test("that is another account's, a client's, over, or none, is 404, and nothing is done", async () => {
    const login = await newcomer();
    const [own, ended, idle] = [await login(), await login(), await login()];
    const others = await fixture.login();
    const shop = basic("shop", fixture.clientSecrets.shop);
    const grant = await fixture.postForm("/token", { grant_type: "client_credentials" }, shop);
    const standing = String(decodeJwt(parse<TokenResponse>(grant).access_token)["rid"]);
    expectNoContent(await end(own, ended.session_id));
    await moveSession(fixture.database, idle.session_id, { usedAgoMs: 30 * 24 * 3_600_000 });
    const ids = [others.session_id, standing, ended.session_id, idle.session_id, randomUUID()];
    const spellings = [
      own.session_id.toUpperCase(),
      `${own.session_id}%00`,
      `${own.session_id}%20`,
      "x",
      "%2e%2e",
    ];
    const bodies = await expectNothingDone(fixture, async () => {
      const answers = await Promise.all([...ids, ...spellings].map((id) => end(own, id)));
      for (const answer of answers) expectBadRequest(answer, "not_found", 404);
      return answers.map(({ body }) => body.toString());
    });
    expect(new Set(bodies).size).toBe(1);
  });

  test.each([
    ["/sessions/%zz", 400, "invalid_request"],
    ["/sessions/", 404, "not_found"],
    ["/sessions/a/b", 404, "not_found"],
    [`/sessions/${"a".repeat(10_000)}`, 404, "not_found"],
  ])("%s is no session's path", async (target, status, error) => {
    const { access_token } = await fixture.login();
    expectRefusal(await fixture.send("DELETE", target, bearer(access_token)), status, error);
  });
});

describeBearerRules({ fixture: () => fixture, method: "GET", target: "/sessions", accepted: 200 });
describeAccountTokenRules({ fixture: () => fixture, method: "GET", target: "/sessions", accepted: 200 });
const unknown = `/sessions/${randomUUID()}`;
describeBearerRules({ fixture: () => fixture, method: "DELETE", target: unknown, accepted: 404 });
describeAccountTokenRules({ fixture: () => fixture, method: "DELETE", target: unknown, accepted: 404 });
describeMethodRules({ fixture: () => fixture, path: "/sessions", allowed: ["GET", "HEAD"] });
describeMethodRules({ fixture: () => fixture, path: unknown, allowed: ["DELETE"] });
describeOutage(
  () => fixture,
  async () => {
    const login = await newcomer();
    const [own, other] = [await login(), await login()];
    return [() => list(own), () => end(own, other.session_id)];
  },
);
