import { createHash } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { decodeJwt, decodeProtectedHeader } from "jose";
import { sealClient } from "../../src/clients/client.ts";
import { generateSigningKey } from "../../src/keys/signing-key.ts";
import type { AccessTokenClaims } from "../../src/protocol/access-token.ts";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import {
  basic,
  bearer,
  type EndpointFixture,
  parse,
  startEndpointFixture,
} from "../http/endpoint-fixture.ts";
import { addAccount, eventually, testSecrets } from "../support/accounts.ts";
import { readMetric } from "../support/instance.ts";
import { person } from "./forged-rows.ts";
import { forgersSecrets, forgeSession, insertSession, readSession } from "./session-attacks.ts";

/** Invariant I6 in the tables of clients and of issued tokens: mallory may do anything in the database. */

const mallory = person("mallory");
const hisSecret = "kfs_mallory";
const hisHash = `sha256('${hisSecret}')`;
let fixture: EndpointFixture;
let mallorys: TokenResponse;
/** Of the client `shop`, under its standing session. */
let shops: TokenResponse;

const sql = (text: string) => fixture.database.pool.query(text);
const forgedRows = (kind: string) =>
  readMetric(fixture.instance, `keyfleet_forged_rows_total{kind="${kind}"}`);
const forgedTokens = () => readMetric(fixture.instance, "keyfleet_forged_tokens_total");
const ask = (client: string, secret: string, parameters: object = {}) =>
  fixture.postForm("/token", { grant_type: "client_credentials", ...parameters }, basic(client, secret));
const introspect = (token: string, secret = fixture.clientSecrets.shop) =>
  fixture.postForm("/introspect", { token }, basic("shop", secret));

beforeAll(async () => {
  fixture = await startEndpointFixture();
  await addAccount(fixture.database.url, mallory);
  for (const client of ["shop", "reports"] as const) {
    const answer = await ask(client, fixture.clientSecrets[client]);
    expect(answer.status).toBe(200);
    if (client === "shop") shops = parse<TokenResponse>(answer);
  }
  await sql("create table clients_before as table keyfleet.clients");
}, 30_000);
afterAll(() => fixture?.stop());
beforeEach(async () => {
  mallorys = await fixture.login({ username: mallory.username, password: mallory.password });
});
afterEach(async () => {
  await sql("truncate keyfleet.clients; insert into keyfleet.clients table clients_before");
  expect((await ask("shop", fixture.clientSecrets.shop)).status).toBe(200);
  expect(parse(await introspect(shops.access_token))).toMatchObject({ active: true, sub: "shop" });
});

/** The client gets nothing anywhere, by its own secret nor by mallory's, and that is an alarm. */
async function expectForged(client: "shop" | "reports" | "made-up", secret: string): Promise<void> {
  const [before, outputBefore] = [await forgedRows("client"), fixture.instance.output().length];
  const credentials = basic(client, secret);
  for (const [target, parameters] of [
    ["/token", { grant_type: "client_credentials" }],
    ["/introspect", { token: mallorys.access_token }],
    ["/token", { grant_type: "refresh_token", refresh_token: mallorys.refresh_token }],
    ["/revoke", { token: mallorys.access_token }],
  ] as const) {
    const answer = await fixture.postForm(target, parameters, credentials);
    expect([answer.status, parse(answer)["error"]]).toEqual([401, "invalid_client"]);
  }
  expect(await forgedRows("client")).toBe(before + 4);
  await eventually(() => fixture.instance.output().slice(outputBefore).includes("not written by Keyfleet"));
}

describe("in the table of clients", () => {
  const copy = (columns: string) =>
    `set (${columns}) = (select ${columns} from clients_before where id = 'reports') where id = 'shop'`;

  test.each<[string, string, "own" | "mallory's" | "reports'"]>([
    ["shop has mallory's secret", `set secret_hash = ${hisHash} where id = 'shop'`, "mallory's"],
    [
      "shop has mallory's secret and a made-up seal",
      `set secret_hash = ${hisHash}, seal = sha256('') where id = 'shop'`,
      "mallory's",
    ],
    ["shop has reports' secret", copy("secret_hash"), "reports'"],
    ["shop has reports' secret and seal", copy("secret_hash, secret_id, seal"), "reports'"],
    [
      "shop has all that reports' seal covers",
      copy("secret_hash, audiences, scopes, secret_id, seal"),
      "reports'",
    ],
    ["shop has a wider scope", "set scopes = scopes || '{payments}' where id = 'shop'", "own"],
    [
      "shop has another audience",
      "set audiences = audiences || '{https://other.example}' where id = 'shop'",
      "own",
    ],
    ["shop names another secret", "set secret_id = 'another' where id = 'shop'", "own"],
    [
      "shop and reports have each other's id",
      "set id = case id when 'shop' then 'reports' else 'shop' end where id in ('shop', 'reports')",
      "reports'",
    ],
  ])("where %s, it gets nothing", async (_, change, whose) => {
    await sql(`alter table keyfleet.clients drop constraint if exists clients_pkey`);
    await sql(`update keyfleet.clients ${change}`);
    const secrets = {
      own: fixture.clientSecrets.shop,
      "reports'": fixture.clientSecrets.reports,
      "mallory's": hisSecret,
    };
    await expectForged("shop", secrets[whose]);
  });

  const madeUp = { id: "made-up", secretHash: createHash("sha256").update(hisSecret).digest() };
  const add = (secrets: typeof testSecrets, seal: string) => {
    const client = sealClient(secrets, {
      ...madeUp,
      audiences: [fixture.issuer],
      scopes: ["keyfleet:admin"],
    });
    return fixture.database.pool.query(
      `insert into keyfleet.clients (id, secret_hash, audiences, scopes, secret_id, seal)
       values ($1, $2, $3, $4, $5, ${seal})`,
      [
        client.id,
        client.secretHash,
        client.audiences,
        client.scopes,
        testSecrets.current.id,
        ...(seal === "$6" ? [client.seal.seal] : []),
      ],
    );
  };

  test("a client of our own making gets a token: nothing but the seal is wrong with the others", async () => {
    await add(testSecrets, "$6");
    expect((await ask("made-up", hisSecret)).status).toBe(200);
  });

  test.each([
    ["a made-up seal", testSecrets, "sha256('')"],
    ["reports' seal", testSecrets, "(select seal from clients_before where id = 'reports')"],
    ["a seal under another fleet's secret, said to be ours", forgersSecrets, "$6"],
  ])("a client that was added with %s gets nothing", async (_, secrets, seal) => {
    await add(secrets, seal);
    await expectForged("made-up", hisSecret);
  });
});

describe("a client's standing session", () => {
  const point = (session: string) =>
    sql(`update keyfleet.clients set session_id = (${session}) where id = 'shop'`);
  const standing = (client: string) => `select session_id from clients_before where id = '${client}'`;

  /** Its own secret is right, and the row of the client as it was: what it would get belongs to another session. */
  async function expectNothing(): Promise<void> {
    const answer = await ask("shop", fixture.clientSecrets.shop);
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(answer.body.toString()).not.toContain("_token");
  }

  test("that is an account's gives no token", async () => {
    await point(`select '${mallorys.session_id}'::uuid`);
    await expectNothing();
  });

  test("that is another client's gives no token", async () => {
    await point(standing("reports"));
    await expectNothing();
  });

  test("that mallory inserted gives no token", async () => {
    const { pool } = fixture.database;
    const model = await readSession(pool, mallorys.session_id);
    const { session } = forgeSession(
      { ...model, accountId: null, clientId: "shop" },
      "forger's, said to be ours",
    );
    await insertSession(pool, session);
    await point(`select '${session.id}'::uuid`);
    await expectNothing();
  });

  test.each([
    "account_id = (select id from keyfleet.accounts limit 1)",
    "expires_at = expires_at + interval '1 year'",
  ])("whose row was changed (%s) gives no token", async (change) => {
    await sql("create table sessions_before as table keyfleet.sessions");
    await sql(`update keyfleet.sessions set ${change} where id = (${standing("shop")})`);
    await expectNothing();
    await sql(
      `truncate keyfleet.sessions; insert into keyfleet.sessions table sessions_before; drop table sessions_before`,
    );
  });
});

describe("in the record of issued tokens", () => {
  const change = (changes: string) =>
    fixture.database.pool.query(`update keyfleet.issued_tokens set ${changes} where jti = $1`, [
      decodeJwt(mallorys.access_token).jti,
    ]);
  const own = (target: string) => fixture.send("GET", target, bearer(mallorys.access_token));

  // Outside I6 by the design: to deny a revocation is to delete it.
  test("a revoked token that is not revoked any more says what was signed, and no more", async () => {
    await fixture.postForm("/revoke", { token: mallorys.access_token });
    expect(parse(await introspect(mallorys.access_token))).toEqual({ active: false });
    await change("revoked_at = null, scope = scope");
    const told = parse(await introspect(mallorys.access_token));
    expect(told).toEqual({ active: true, token_type: "Bearer", ...decodeJwt(mallorys.access_token) });
  });

  test("a later end changes nothing of what a token says", async () => {
    await change("expires_at = expires_at + interval '1 day'");
    const told = parse(await introspect(mallorys.access_token));
    expect(told).toEqual({ active: true, token_type: "Bearer", ...decodeJwt(mallorys.access_token) });
  });

  test.each([
    ["a wider scope", "scope = scope || ' keyfleet:admin'"],
    ["another audience", "audience = 'https://api.example'"],
    ["another client", "client_id = 'shop'"],
    ["another session", "session_id = (select session_id from clients_before where id = 'shop')"],
  ])("where it has %s, the token is refused, and an alarm", async (_, changes) => {
    const before = await forgedTokens();
    expect((await own("/userinfo")).status).toBe(200);
    await change(changes);
    expect(parse(await introspect(mallorys.access_token))).toEqual({ active: false });
    for (const target of ["/userinfo", "/sessions"]) expect((await own(target)).status).toBe(401);
    expect(await forgedTokens()).toBe(before + 3);
  });

  test("a record that mallory adds makes no token of what a stranger signed", async () => {
    const { kid } = decodeProtectedHeader(mallorys.access_token);
    const stranger = generateSigningKey("EdDSA");
    const claims = { ...decodeJwt<AccessTokenClaims>(shops.access_token), jti: "made-up" };
    const [, payload, signature] = stranger.signAccessToken(claims).split(".");
    for (const [named, header] of [
      [stranger.kid, stranger.signAccessToken(claims).split(".")[0]],
      [kid, mallorys.access_token.split(".")[0]],
    ]) {
      await fixture.database.pool.query(
        `insert into keyfleet.issued_tokens (jti, session_id, kid, instance_id, client_id, audience, scope, issued_at, expires_at)
         select 'made-up', session_id, $2, instance_id, client_id, audience, scope, issued_at, expires_at
         from keyfleet.issued_tokens where jti = $1 on conflict (jti) do update set kid = excluded.kid`,
        [decodeJwt(shops.access_token).jti, named],
      );
      const told = await introspect([header, payload, signature].join("."));
      expect(parse(told)).toEqual({ active: false });
    }
  });
});

test("an account that took alice's name is not told as her, and is an alarm", async () => {
  const { access_token: token } = await fixture.login();
  const exchange = `update keyfleet.accounts
    set username = case username when 'alice' then 'mallory' else 'alice' end`;
  const before = await forgedRows("account");
  await sql("alter table keyfleet.accounts drop constraint if exists accounts_username_key");
  await sql(exchange);
  const answers = [];
  for (const each of [mallorys.access_token, token]) {
    answers.push((await fixture.send("GET", "/userinfo", bearer(each))).status);
  }
  await sql(exchange);
  expect(answers).toEqual([401, 401]);
  expect(await forgedRows("account")).toBe(before + 2);
  expect((await fixture.send("GET", "/userinfo", bearer(token))).status).toBe(200);
});
