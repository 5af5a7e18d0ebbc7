/**
 * Invariant I6, an attack a case: mallory is superuser of the whole database, and has an account of her own; FLEET_SECRET
 * she has not. None of this gets her a key that is served, a login or a refresh as alice, a scope, or a signature. The
 * `hostile-` files beside this one go through each table row by row.
 */

import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import pg from "pg";
import { decodeLoanMessage, openSignature } from "../../src/keys/signature-loan.ts";
import { accessTokenSigningInput, generateSigningKey, isSignedBy } from "../../src/keys/signing-key.ts";
import { loanChannel } from "../../src/postgres/signature-loans.ts";
import type { AccessTokenClaims } from "../../src/protocol/access-token.ts";
import { addAccount, alice, eventually, login, postLogin, testSecrets } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { disarm, insertKey } from "./database-attacks.ts";
import { ourKey, person, strangersKey, withSealOf } from "./forged-rows.ts";
import {
  between,
  copyToMallory,
  facts,
  factsSeal,
  madeUpToken,
  moving,
  movingSeal,
  setAtMallory,
  swap,
} from "./session-attacks.ts";
import { servedKeys } from "./stock-verification.ts";

const mallory = person("mallory");
let database: TestDatabase;
/** Has the only key; the other borrows every signature. */
let signer: TestInstance;
let borrower: TestInstance;
let listener: pg.Client | undefined;

/** Makes `keyfleet.choose_signing_key` as it was. */
let chooseSigningKey: string;

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  await addAccount(database.url, mallory);
  const settings = { ISSUER: "http://localhost", MAX_SIGNERS: "1", LOGIN_ATTEMPTS: "10000" };
  signer = await startInstance({ databaseUrl: database.url, settings });
  borrower = await startInstance({ databaseUrl: database.url, settings });
  await disarm(database.pool);
  await sql("create table accounts_before as table keyfleet.accounts");
  const { rows } = await database.pool.query<{ text: string }>(
    "select pg_get_functiondef('keyfleet.choose_signing_key'::regproc) as text",
  );
  chooseSigningKey = rows[0]?.text ?? "";
}, 20_000);
/** All that mallory did is undone. */
afterEach(async () => {
  await listener?.end();
  listener = undefined;
  await sql(`
    truncate keyfleet.accounts;
    insert into keyfleet.accounts table accounts_before;
    delete from keyfleet.instances where host = '';
    drop trigger if exists rewrite on keyfleet.issued_tokens;
    drop function if exists public.rewrite;
    ${chooseSigningKey}`);
  const untilAliceLogsIn = ({ url }: TestInstance) =>
    // Who did not lend as asked is left alone for a while.
    eventually(async () => (await postLogin(url)).status === 200, 10_000, 250);
  await Promise.all([signer, borrower].map(untilAliceLogsIn));
}, 15_000);
afterAll(async () => {
  await Promise.all([signer, borrower].map((instance) => instance.stop("SIGKILL")));
  await database.drop();
});

const sql = (text: string, values: unknown[] = []) => database.pool.query(text, values);

async function refresh({ url }: TestInstance, refreshToken: string): Promise<Record<string, string>> {
  const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token: refreshToken });
  return (await (await fetch(`${url}/token`, { method: "POST", body })).json()) as Record<string, string>;
}

describe("a key that is served", () => {
  test.each([
    ["of her own, with the seal of a genuine row", () => withSealOf(strangersKey(), ourKey())],
    ["of her own, sealed under her own secret", () => strangersKey()],
    ["whose end she moved", () => ({ ...ourKey(), expiresAtMs: Date.now() + 1e9 })],
  ])("is none %s", async (_, make) => {
    const [forged, genuine] = [make(), ourKey()];
    await insertKey(database.pool, forged);
    await insertKey(database.pool, genuine);
    for (const instance of [signer, borrower]) {
      await eventually(async () => (await servedKeys(instance)).has(genuine.kid));
      expect((await servedKeys(instance)).has(forged.kid)).toBe(false);
    }
  });
});

describe("a login as alice", () => {
  test.each([
    [
      "with the hash of mallory's password in alice's row",
      `update keyfleet.accounts a set password = m.password
       from keyfleet.accounts m where a.username = 'alice' and m.username = 'mallory'`,
    ],
    [
      "with all that authorises, seal included",
      `update keyfleet.accounts a set password = m.password,
       secret_id = m.secret_id, seal = m.seal, version = m.version
       from keyfleet.accounts m where a.username = 'alice' and m.username = 'mallory'`,
    ],
    [
      "with the names exchanged",
      `update keyfleet.accounts set username = username || ' ';
       update keyfleet.accounts set username = case username when 'alice ' then 'mallory' else 'alice' end`,
    ],
  ])("is refused %s", async (_, attack) => {
    await sql(attack);
    for (const { url } of [signer, borrower]) {
      const response = await postLogin(url, { password: mallory.password });
      expect([response.status, await response.json()]).toEqual([401, expect.anything()]);
    }
  });

  test("gives mallory no scope that she wrote into her own row", async () => {
    await sql("update keyfleet.accounts set scopes = '{keyfleet:admin}' where username = 'mallory'");
    const response = await postLogin(signer.url, { ...mallory, scope: "keyfleet:admin" });
    expect(response.status).not.toBe(200);
  });
});

describe("a refresh", () => {
  test.each([
    ["as alice, with whose session it is exchanged", swap("account_id")],
    ["as alice, with all facts of her session", copyToMallory(facts)],
    ["as alice, with all facts of her session and their seal", copyToMallory(`${facts}, ${factsSeal}`)],
    ["as alice, with mallory's token in her session", swap(`${moving}, ${movingSeal}`)],
    ["with more scope", setAtMallory("scope = 'orders:read keyfleet:admin'")],
    ["for another audience", setAtMallory("audience = 'https://elsewhere.example'")],
    ["after the session's end was moved", setAtMallory("expires_at = expires_at + interval '1 year'")],
  ])("gives nothing %s", async (_, attack) => {
    const hers = await login(signer.url);
    const own = await login(signer.url, mallory);
    await sql(between(attack, hers.session_id, own.session_id));
    for (const instance of [signer, borrower]) {
      expect(await refresh(instance, own.refresh_token)).toMatchObject({ error: "invalid_grant" });
    }
  });

  test("gives nothing for a token that mallory made up, whose hash she wrote into alice's session", async () => {
    const { session_id } = await login(signer.url);
    const { text, hash } = madeUpToken(session_id);
    await sql(`update keyfleet.sessions set refresh_hash = ${hash} where id = $1`, [session_id]);
    expect(await refresh(signer, text)).toMatchObject({ error: "invalid_grant" });
  });

  test("gives one to alice, of whom mallory left everything alone", async () => {
    for (const instance of [signer, borrower]) {
      const { refresh_token } = await login(instance.url, { username: alice.username });
      expect(await refresh(instance, refresh_token)).toHaveProperty("access_token");
    }
  });
});

describe("a signature", () => {
  /** What goes over the loan channels of these instances, to whoever listens. */
  async function overhear(instanceIds: readonly string[]): Promise<readonly string[]> {
    const heard: string[] = [];
    listener = new pg.Client({ connectionString: database.url });
    listener.on("notification", ({ payload = "" }) => void heard.push(payload));
    await listener.connect();
    for (const id of instanceIds) await listener.query(`listen ${loanChannel(id)}`);
    return heard;
  }

  async function overhearAnswers() {
    const heard = await overhear([signer.instanceId, borrower.instanceId]);
    return () => heard.map(decodeLoanMessage).filter((message) => message?.type === "answer");
  }

  /** What the lender signs for a record that names the session of alice's token, and the key that it signs with. */
  async function signedFor(jti: string, alicesToken: string) {
    const { rows } = await database.pool.query<{ iat: number; scope: string; kid: string; x: string }>(
      `select floor(extract(epoch from t.issued_at))::int as iat, t.scope, k.kid, k.x
       from keyfleet.issued_tokens t join keyfleet.signing_keys k using (kid) where t.jti = $1`,
      [jti],
    );
    const { iat = 0, scope = "", kid = "", x = "" } = rows[0] ?? {};
    const claims = { ...decodeJwt(alicesToken), jti, scope, iat, nbf: iat, exp: iat + 900 };
    return { kid, x, input: accessTokenSigningInput("EdDSA", kid, claims as AccessTokenClaims) };
  }

  /** The lender was taken in: whoever has FLEET_SECRET finds its signature over alice's claims in the answer. */
  async function expectAlicesSignature(
    answer: { readonly jti: string; readonly sealed: string } | undefined,
    alicesToken: string,
  ): Promise<void> {
    const { jti = "", sealed = "" } = answer ?? {};
    const { kid, x, input } = await signedFor(jti, alicesToken);
    const signature = openSignature(testSecrets, { jti, kid, borrowerId: borrower.instanceId }, sealed);
    expect(signature && isSignedBy(x, input, signature)).toBe(true);
  }

  test("is not to be had of a lender for a record of her making: the answer is sealed", async () => {
    const hers = await login(borrower.url);
    const answers = await overhearAnswers();
    const jti = "A".repeat(22);
    await sql(
      `insert into keyfleet.issued_tokens select $1, session_id, kid, instance_id, client_id, audience, scope,
         date_trunc('second', clock_timestamp()), date_trunc('second', clock_timestamp()) + interval '15 min', null
       from keyfleet.issued_tokens where jti = $2`,
      [jti, decodeJwt(hers.access_token).jti],
    );
    await sql("select pg_notify($1, $2)", [loanChannel(signer.instanceId), `request ${jti}`]);
    await eventually(() => answers().some((answer) => answer.jti === jti));
    const answer = answers().find((heard) => heard.jti === jti);
    const sealed = Buffer.from(answer?.sealed.split(".")[1] ?? "", "base64url");
    expect(sealed.length).toBeGreaterThan(64);
    const { x, input } = await signedFor(jti, hers.access_token);
    for (let start = 0; start + 64 <= sealed.length; start += 1)
      expect(isSignedBy(x, input, sealed.subarray(start, start + 64))).toBe(false);
    await expectAlicesSignature(answer, hers.access_token);
  });

  test("does not come over other claims than mallory's own: a trigger rewrites records during the loan", async () => {
    const hers = await login(signer.url);
    const answers = await overhearAnswers();
    await sql(`
      create function public.rewrite() returns trigger language plpgsql as $$
        begin new.session_id := '${hers.session_id}'; return new; end $$;
      create trigger rewrite before insert on keyfleet.issued_tokens for each row execute function public.rewrite()`);
    expect((await postLogin(borrower.url, mallory)).status).toBe(503);
    await eventually(() => answers().length > 0);
    await expectAlicesSignature(answers()[0], hers.access_token);
  });

  test("is asked of no lender that she made up, who would hear it", async () => {
    const { kid, x } = generateSigningKey("EdDSA");
    const [genuine, own] = [ourKey(), randomUUID()];
    const heard = await overhear([own]);
    await sql(
      `insert into keyfleet.instances (id, host, process_id, started_at, heartbeat_at, listening)
       values ($1, '', 0, now(), now() + interval '10 s', true)`,
      [own],
    );
    await insertKey(database.pool, { ...genuine, kid, x, instanceId: own });
    await insertKey(database.pool, genuine);
    await eventually(async () => (await servedKeys(borrower)).has(genuine.kid));
    for (let logins = 0; logins < 12; logins += 1) await login(borrower.url);
    await sql("select pg_notify($1, 'the end')", [loanChannel(own)]);
    await eventually(() => heard.includes("the end"));
    expect(heard).toEqual(["the end"]);
  });

  test("is not made under a kid that the issuing statement makes up, nor over what it says besides", async () => {
    const { kid } = generateSigningKey("EdDSA");
    await sql(`
      create or replace function keyfleet.choose_signing_key(
        p_issuer keyfleet.issuer, p_now timestamptz, out kid text, out mature boolean
      ) language plpgsql as $$ begin kid := '${kid}'; mature := true; end $$`);
    for (const { url } of [signer, borrower]) expect((await postLogin(url)).status).toBe(503);
  });
});
