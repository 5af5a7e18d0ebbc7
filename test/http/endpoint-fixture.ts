/** One instance with an account and two clients, and the ways to ask it: what the tests of the endpoints share. */

import { createClientManagement, type NewClient } from "../../src/clients/manage-clients.ts";
import { createClientStore } from "../../src/postgres/clients.ts";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { addAccount, alice, eventually, login, testActing, testSecrets } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { type Settings, startInstance, type TestInstance } from "../support/instance.ts";
import { type ProxyMode, startTcpProxy } from "../support/tcp-proxy.ts";
import { type RawAnswer, sendRequest } from "./raw-request.ts";

export const apiAudience = "https://api.example";
export const otherAudience = "https://other.example";

export type Headers = Readonly<Record<string, string>>;
export type Parameters = Readonly<Record<string, string>>;

export const formType = { "content-type": "application/x-www-form-urlencoded" };
export const jsonType = { "content-type": "application/json" };

export interface EndpointFixture {
  readonly database: TestDatabase;
  readonly instance: TestInstance;
  readonly issuer: string;
  /** Secrets by client id: `shop` serves the first audience and the issuer, `reports` the other one. */
  readonly clientSecrets: Readonly<Record<"shop" | "reports", string>>;
  send(method: string, target: string, headers?: Headers, body?: string): Promise<RawAnswer>;
  postForm(target: string, parameters: Parameters, headers?: Headers): Promise<RawAnswer>;
  postJson(target: string, members: object, headers?: Headers): Promise<RawAnswer>;
  /** Of alice, for the issuer, so that the tokens are good at every endpoint. */
  login(members?: object): Promise<TokenResponse>;
  /** Runs `work` while the database is away, and returns when tokens can be issued again. */
  whileAway<Result>(mode: ProxyMode, work: () => Promise<Result>): Promise<Result>;
  /** Every row that grants or denies, as text: the same where nothing was done. */
  state(): Promise<ReadonlySet<string>>;
  /** A text that no log line and no row may tell; tokens that were answered are known already. */
  keepSecret(text: string): void;
  /** Throws where the log or the database tell a secret. */
  stop(): Promise<void>;
}

/** The `audiences` of the two clients have to be among AUDIENCES; the issuer is added. */
export async function addClient(databaseUrl: TestDatabase, client: NewClient, issuer = ""): Promise<string> {
  const allowedAudiences = [apiAudience, otherAudience, issuer];
  const store = createClientStore(databaseUrl.pool);
  const dependencies = { store, secrets: testSecrets, allowedAudiences, who: testActing };
  return createClientManagement(dependencies).add(client);
}

export async function startEndpointFixture(settings: Settings = {}): Promise<EndpointFixture> {
  const database = await freshDatabase();
  await addAccount(database.url);
  const proxy = await startTcpProxy(database.url);
  const instance = await startInstance({
    databaseUrl: proxy.url,
    settings: { AUDIENCES: `${apiAudience},${otherAudience}`, LOGIN_ATTEMPTS: "10000", ...settings },
  }).catch(async (error: unknown) => {
    await proxy.close();
    await database.drop();
    throw error;
  });
  // As of an instance that has been up for a while: every token since is on record.
  await database.pool.query(
    "update keyfleet.fleet_state set complete_since = complete_since - interval '1 h'",
  );
  const { issuer } = instance;
  const scopes = ["orders:read", "orders:write", "keyfleet:admin"];
  const shop = await addClient(database, { id: "shop", audiences: [apiAudience, issuer], scopes }, issuer);
  const reports = await addClient(database, { id: "reports", audiences: [otherAudience], scopes: [] });
  const secrets = new Set<string>([alice.password, shop, reports]);

  async function send(
    method: string,
    target: string,
    headers: Headers = {},
    body?: string,
  ): Promise<RawAnswer> {
    const answer = await sendRequest(instance.url, target, {
      method,
      headers,
      ...(body === undefined ? {} : { body }),
    });
    for (const secret of tokensIn(answer)) secrets.add(secret);
    return answer;
  }

  return {
    database,
    instance,
    issuer,
    clientSecrets: { shop, reports },
    send,
    postForm: (target, parameters, headers = {}) =>
      send("POST", target, { ...formType, ...headers }, new URLSearchParams(parameters).toString()),
    postJson: (target, members, headers = {}) =>
      send("POST", target, { ...jsonType, ...headers }, JSON.stringify(members)),
    async login(members = {}) {
      const tokens = await login(instance.url, { audience: issuer, ...members });
      secrets.add(tokens.access_token).add(tokens.refresh_token);
      return tokens;
    },
    async whileAway(mode, work) {
      proxy.setMode(mode);
      try {
        return await work();
      } finally {
        proxy.setMode("pass");
        await eventually(async () => (await fetch(`${instance.url}/readyz/issue`)).status === 200);
      }
    },
    async state() {
      const tables = ["accounts", "clients", "sessions", "issued_tokens", "revocations", "signing_keys"];
      return new Set(await dump(database, tables));
    },
    keepSecret: (text) => void secrets.add(text),
    async stop() {
      await instance.stop();
      const told = [instance.output(), ...(await dump(database, await tablesOf(database)))].join();
      await proxy.close();
      await database.drop();
      const leaked = [...secrets].flatMap(spellings).filter((text) => told.includes(text));
      if (leaked.length > 0) throw new Error(`the log or the database tell ${leaked.length} secrets`);
    },
  };
}

async function tablesOf({ pool }: TestDatabase): Promise<string[]> {
  const sql = "select tablename as name from pg_catalog.pg_tables where schemaname = 'keyfleet'";
  return (await pool.query<{ name: string }>(sql)).rows.map(({ name }) => name);
}

/** The rows, each after its table's name: by one question, for it is asked around every request. */
async function dump({ pool }: TestDatabase, tables: readonly string[]): Promise<string[]> {
  const selects = tables.map((table) => `select '${table} ' || t::text as row from keyfleet.${table} t`);
  const { rows } = await pool.query<{ row: string }>(selects.join(" union all "));
  return rows.map(({ row }) => row);
}

function tokensIn({ status, body }: RawAnswer): string[] {
  if (status !== 200 || !body.includes("_token")) return [];
  const { access_token, refresh_token } = JSON.parse(body.toString()) as Partial<TokenResponse>;
  return [access_token, refresh_token].filter((token) => token !== undefined);
}

/** What of a secret may be found nowhere: an access token's signature, the secret within a refresh token. */
function spellings(secret: string): string[] {
  if (secret.startsWith("kfr_")) {
    const bytes = Buffer.from(secret.slice("kfr_".length), "base64url");
    return [secret.slice(30), bytes.subarray(20, 52).toString("hex")];
  }
  const signature = /^eyJ[\w-]+\.[\w-]+\.([\w-]{86})$/.exec(secret)?.[1];
  return [signature ?? secret];
}

export function bearer(token: string): Headers {
  return { authorization: `Bearer ${token}` };
}

/** Each part form-encoded first, as RFC 6749 §2.3.1 says. */
export function basic(clientId: string, secret: string): Headers {
  const encode = (part: string) => new URLSearchParams({ "": part }).toString().slice(1);
  return basicOf(`${encode(clientId)}:${encode(secret)}`);
}

/** Of exactly this text. */
export function basicOf(text: string): Headers {
  return { authorization: `Basic ${Buffer.from(text).toString("base64")}` };
}

export function parse<Body = Record<string, unknown>>({ body }: RawAnswer): Body {
  return JSON.parse(body.toString()) as Body;
}
