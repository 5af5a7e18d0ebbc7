import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import {
  basic,
  bearer,
  type EndpointFixture,
  type Headers,
  parse,
  startEndpointFixture,
} from "../http/endpoint-fixture.ts";
import { moveSession } from "../http/moved-session.ts";
import type { RawAnswer } from "../http/raw-request.ts";
import { addAccount, eventually } from "../support/accounts.ts";
import { readMetric } from "../support/instance.ts";
import { person } from "./forged-rows.ts";
import {
  between,
  copyToMallory,
  facts,
  factsSeal,
  forgeSession,
  insertSession,
  madeUpToken,
  moving,
  movingSeal,
  readSession,
  setAtMallory,
  swap,
} from "./session-attacks.ts";

/** Invariant I6 in the table of sessions: mallory, who has an account, may do anything in the database. */

const dayMs = 86_400_000;
const mallory = person("mallory");
let fixture: EndpointFixture;
let shop: Headers;
let bystander: TokenResponse;
/** Of the two sessions that each test has of its own. */
let alices: TokenResponse;
let mallorys: TokenResponse;

beforeAll(async () => {
  fixture = await startEndpointFixture();
  shop = basic("shop", fixture.clientSecrets.shop);
  await addAccount(fixture.database.url, mallory);
  await fixture.database.pool.query("create table copies as table keyfleet.sessions with no data");
  bystander = await fixture.login();
}, 30_000);
afterAll(() => fixture?.stop());
beforeEach(async () => {
  alices = await fixture.login();
  mallorys = await fixture.login({ username: mallory.username, password: mallory.password });
});
afterEach(async () => {
  const answer = await refresh(bystander.refresh_token);
  expect(answer.status).toBe(200);
  bystander = parse<TokenResponse>(answer);
});

const attack = (sql: string) =>
  fixture.database.pool.query(between(sql, alices.session_id, mallorys.session_id));
const refresh = (token: string, parameters: object = {}, headers: Headers = {}) =>
  fixture.postForm("/token", { grant_type: "refresh_token", refresh_token: token, ...parameters }, headers);
const introspect = (token: string) => fixture.postForm("/introspect", { token }, shop);
const forgedSessions = () => readMetric(fixture.instance, 'keyfleet_forged_rows_total{kind="session"}');

function expectRefused(answer: RawAnswer): void {
  expect([answer.status, parse(answer)["error"]]).toEqual([400, "invalid_grant"]);
}

/** Refused, and an alarm. */
async function expectForged(present: () => Promise<RawAnswer>): Promise<void> {
  const [before, outputBefore] = [await forgedSessions(), fixture.instance.output().length];
  expectRefused(await present());
  expect(await forgedSessions()).toBe(before + 1);
  await eventually(() => fixture.instance.output().slice(outputBefore).includes("not written by Keyfleet"));
}

/** An access token says what it said when it was signed, or nothing. */
async function expectNoMore({ access_token: token }: TokenResponse): Promise<void> {
  const claims = decodeJwt(token);
  const told = parse(await introspect(token));
  if (told["active"] === true) expect(told).toEqual({ active: true, token_type: "Bearer", ...claims });
  else expect(told).toEqual({ active: false });
  const userinfo = await fixture.send("GET", "/userinfo", bearer(token));
  if (userinfo.status === 200) expect(parse(userinfo)["sub"]).toBe(claims.sub);
  else expect(userinfo.status).toBe(401);
  const sessions = await fixture.send("GET", "/sessions", bearer(token));
  expect([200, 401]).toContain(sessions.status);
  expect(sessions.body.toString()).not.toMatch(/"(access|refresh)_token"/);
}

test("what nobody changed refreshes, says what it is, and is no alarm", async () => {
  const before = await forgedSessions();
  for (const tokens of [alices, mallorys]) {
    expect((await refresh(tokens.refresh_token)).status).toBe(200);
    const claims = decodeJwt(tokens.access_token);
    expect(parse(await introspect(tokens.access_token))).toMatchObject({ active: true, ...claims });
    const userinfo = await fixture.send("GET", "/userinfo", bearer(tokens.access_token));
    expect(parse(userinfo)["sub"]).toBe(claims.sub);
  }
  expect(await forgedSessions()).toBe(before);
});

describe("mallory's own session", () => {
  test.each<[string, string, object?]>([
    ["has alice's user, and hers has mallory's", swap("account_id")],
    ["has exchanged user and seal with alice's", swap(`account_id, ${factsSeal}`)],
    ["has exchanged all that is fixed with alice's, seal included", swap(`${facts}, ${factsSeal}`)],
    ["has alice's user", copyToMallory("account_id")],
    ["has alice's user and seal", copyToMallory(`account_id, ${factsSeal}`)],
    ["has all of alice's but its own token", copyToMallory(`${facts}, ${factsSeal}, ${movingSeal}`)],
    ["is of no user, and so of the client", setAtMallory("account_id = null")],
    ["has a wider scope", setAtMallory("scope = scope || ' keyfleet:admin'")],
    ["has a scope that is asked for", setAtMallory("scope = 'payments'"), { scope: "payments" }],
    ["has alice's scope and seal", copyToMallory(`scope, ${factsSeal}`)],
    ["has another audience", setAtMallory("audience = 'https://api.example'")],
    ["has a later end", setAtMallory("expires_at = expires_at + interval '1 year'")],
    ["has a later sign-in", setAtMallory("auth_time = auth_time + interval '1 second'")],
    ["has a seal that is made up", setAtMallory("seal = sha256(seal)")],
    ["has no seal", setAtMallory("secret_id = '', seal = ''")],
    ["names another secret", setAtMallory("secret_id = 'another'")],
    ["has no seal of its token", setAtMallory("refresh_seal = null, refresh_seal_secret_id = null")],
    ["has the seal of alice's token", copyToMallory(movingSeal)],
    ["has its two seals exchanged", setAtMallory("seal = refresh_seal, refresh_seal = seal")],
  ])("where it %s, does not refresh", async (_, sql, parameters = {}) => {
    await attack(sql);
    await expectNoMore(mallorys);
    await expectForged(() => refresh(mallorys.refresh_token, parameters));
    expect(parse(await introspect(mallorys.access_token))).toEqual({ active: false });
  });

  test("where it was moved to a client that mallory has the secret of, refreshes for neither", async () => {
    await attack(setAtMallory("client_id = 'shop'"));
    expectRefused(await refresh(mallorys.refresh_token));
    await expectForged(() => refresh(mallorys.refresh_token, {}, shop));
  });

  test("where it has exchanged ids with alice's, refreshes neither by its token nor with its hash moved after it", async () => {
    const spare = crypto.randomUUID();
    const move = (from: string, to: string) => `update keyfleet.sessions set id = ${to} where id = ${from};`;
    await attack(
      move("{alice}", `'${spare}'`) + move("{mallory}", "{alice}") + move(`'${spare}'`, "{mallory}"),
    );
    expectRefused(await refresh(mallorys.refresh_token));
    await attack(swap(`${moving}, ${movingSeal}`));
    await expectForged(() => refresh(mallorys.refresh_token));
  });

  test.each([
    ["its absolute end", { endsInMs: -1000 }, "expires_at = now() + interval '1 day'"],
    ["its idle end", { usedAgoMs: 31 * dayMs }, "rotated_at = now()"],
  ])("after %s, does not live longer than was granted", async (_, times, later) => {
    await moveSession(fixture.database, mallorys.session_id, times);
    const before = await forgedSessions();
    expectRefused(await refresh(mallorys.refresh_token));
    expect(await forgedSessions()).toBe(before);
    await attack(setAtMallory(later));
    await expectForged(() => refresh(mallorys.refresh_token));
  });
});

describe("a refresh token that mallory made up for alice's session", () => {
  const put = (change: string) => `update keyfleet.sessions set ${change} where id = {alice}`;
  const random = "refresh_seal = sha256('')";
  const mallorysSeal = `(${movingSeal}) = (select ${movingSeal} from keyfleet.sessions where id = {mallory})`;

  test.each<[string, (hash: string) => string]>([
    ["stands there as the current one", (hash) => `refresh_hash = ${hash}`],
    ["stands there as the current one, with a made-up seal", (hash) => `refresh_hash = ${hash}, ${random}`],
    ["stands there with the seal of mallory's", (hash) => `refresh_hash = ${hash}, ${mallorysSeal}`],
    ["stands there without any seal", (hash) => `refresh_hash = ${hash}, refresh_seal = null`],
    ["stands there as the parent", (hash) => `parent_hash = ${hash}, generation = 1`],
    [
      "stands there as the parent of nothing",
      (hash) => `parent_hash = ${hash}, generation = 1, refresh_hash = null, refresh_seal = null`,
    ],
    [
      "stands there as the parent, with a derivation that is made up",
      (hash) =>
        `parent_hash = ${hash}, generation = 1, rotation_salt = sha256(''), rotation_secret_id = secret_id`,
    ],
  ])("where it %s, is refused", async (_, change) => {
    const { text, hash } = madeUpToken(alices.session_id);
    expectRefused(await refresh(text));
    await attack(put(change(hash)));
    await expectForged(() => refresh(text));
    await expectNoMore(alices);
  });

  test.each(["refresh_hash", "parent_hash", `${moving}, ${movingSeal}`])(
    "where mallory's own %s was moved there, is refused under either session's id",
    async (columns) => {
      const rotated = parse<TokenResponse>(await refresh(mallorys.refresh_token));
      const copied = `(select ${columns} from keyfleet.sessions where id = {mallory})`;
      await attack(put(`(${columns}) = ${copied}`));
      for (const own of [mallorys.refresh_token, rotated.refresh_token]) {
        const bytes = Buffer.from(own.slice("kfr_".length), "base64url");
        bytes.write(alices.session_id.replaceAll("-", ""), "hex");
        expectRefused(await refresh(`kfr_${bytes.toString("base64url")}`));
      }
      const again = await refresh(rotated.refresh_token);
      expect(decodeJwt(parse<TokenResponse>(again).access_token).sub).toBe(
        decodeJwt(mallorys.access_token).sub,
      );
    },
  );
});

describe("a used refresh token of mallory's", () => {
  /** What the row held while that was the current one. */
  const restore = (columns: string) =>
    setAtMallory(`(${columns}) = (select ${columns} from copies c where c.id = {mallory})`);

  beforeEach(async () => {
    await attack("insert into copies table keyfleet.sessions");
    expect((await refresh(mallorys.refresh_token)).status).toBe(200);
    // Its grace is over.
    await moveSession(fixture.database, mallorys.session_id, { usedAgoMs: 60_000 });
  });
  afterEach(() => fixture.database.pool.query("truncate copies"));

  test("ends its session, where nothing was changed, and is no forgery", async () => {
    const before = await forgedSessions();
    expectRefused(await refresh(mallorys.refresh_token));
    expect(parse(await introspect(mallorys.access_token))).toEqual({ active: false });
    expect(await forgedSessions()).toBe(before);
  });

  test("ends its session where its hash alone was restored: its generation is the past's", async () => {
    await attack(restore("refresh_hash"));
    expectRefused(await refresh(mallorys.refresh_token));
    expect(parse(await introspect(mallorys.access_token))).toEqual({ active: false });
  });

  test.each([
    ["its hash and generation were restored", "refresh_hash, generation"],
    ["its hash, generation and seal were restored", `refresh_hash, generation, ${movingSeal}`],
    ["all but its seal was restored", moving],
    ["all but the time of its use was restored", `refresh_hash, generation, parent_hash, ${movingSeal}`],
    ["its use was made later, so that its grace goes on", "rotated_at"],
  ])("is refused where %s", async (_, columns) => {
    await attack(restore(columns));
    await expectForged(() => refresh(mallorys.refresh_token));
  });

  // Outside I6 by the design, and in docs/threats.md: an older sealed row is genuine. It grants what it granted then.
  test.each([
    ["its moving part", `${moving}, ${movingSeal}`],
    ["the whole row", `${facts}, ${factsSeal}, ${moving}, ${movingSeal}`],
  ])(
    "works again where an earlier copy of %s, seal included, is put back, and gives no more than then",
    async (_, columns) => {
      await attack(restore(columns));
      const answer = await refresh(mallorys.refresh_token);
      expect(answer.status).toBe(200);
      const { sub, scope, aud, rid } = decodeJwt(mallorys.access_token) as Record<string, unknown>;
      expect(decodeJwt(parse<TokenResponse>(answer).access_token)).toMatchObject({ sub, scope, aud, rid });
    },
  );
});

describe("a session that mallory inserted for alice", () => {
  const insert = async (seals: Parameters<typeof forgeSession>[1]) => {
    const { pool } = fixture.database;
    const model = await readSession(pool, alices.session_id);
    const forged = forgeSession({ ...model, scope: "keyfleet:admin" }, seals);
    await insertSession(pool, forged.session);
    return forged.token;
  };

  test("refreshes where the seals are ours: nothing but the seals is wrong with the others", async () => {
    expect((await refresh(await insert("ours"))).status).toBe(200);
  });

  test.each<Parameters<typeof forgeSession>[1]>([
    "random",
    "copied",
    "forger's",
    "forger's, said to be ours",
  ])("does not refresh with seals that are %s", async (seals) => {
    const token = await insert(seals);
    await expectForged(() => refresh(token));
  });
});

// Outside I6 by the design: whether a session has ended is not sealed, for to deny that is to delete a revocation.
test("a session that had ended and is alive again gives no more than it gave, and stays on the revocation log", async () => {
  await fixture.postForm("/logout", { refresh_token: mallorys.refresh_token });
  expectRefused(await refresh(mallorys.refresh_token));
  await attack(setAtMallory("ended_at = null, end_reason = null"));
  await expectNoMore(mallorys);
  const { sub, scope, aud, rid } = decodeJwt(mallorys.access_token) as Record<string, unknown>;
  const answer = await refresh(mallorys.refresh_token);
  expect(decodeJwt(parse<TokenResponse>(answer).access_token)).toMatchObject({ sub, scope, aud, rid });
  const { events } = parse<{ events: { id: string }[] }>(await fixture.send("GET", "/revocations"));
  expect(events.map(({ id }) => id)).toContain(mallorys.session_id);
});
