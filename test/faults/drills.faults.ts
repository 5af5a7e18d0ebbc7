import { randomBytes } from "node:crypto";
import { afterAll, afterEach, describe, expect, test } from "@jest/globals";
import { createFleetSecrets } from "../../src/fleet-secret.ts";
import { createAccountStore } from "../../src/postgres/accounts.ts";
import { createInstanceStore } from "../../src/postgres/instances.ts";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { type CommandResult, runCommand } from "../cli/run-command.ts";
import { insertKey, keepColumns } from "../fleet/database-attacks.ts";
import { ourAccount, ourKey, person, strangersAccount } from "../fleet/forged-rows.ts";
import { type People, startPeople } from "../fleet/people.ts";
import { type RollingFleet, startRollingFleet } from "../fleet/rolling-fleet.ts";
import { runbookCommands } from "../fleet/runbook.ts";
import { runTyped, typeCommand } from "../fleet/typed-command.ts";
import { addClient, basic, startEndpointFixture } from "../http/endpoint-fixture.ts";
import { logLines } from "../http/refusal.ts";
import { createForger } from "../http/strange-tokens.ts";
import {
  addAccount,
  alice,
  eventually,
  login,
  postLogin,
  testActing,
  testSecrets,
} from "../support/accounts.ts";
import { freshDatabase, inTransaction, type TestDatabase } from "../support/database.ts";
import { readMetric, type Settings, testSecret } from "../support/instance.ts";
import { readSnapshot } from "../support/revocation-stream.ts";

let database: TestDatabase;
let fleet: RollingFleet | undefined;
let people: People | undefined;

/** One for all whose drill leaves it as it was. */
async function startFleet(): Promise<RollingFleet> {
  if (fleet !== undefined) return fleet;
  database = await freshDatabase();
  fleet = await startRollingFleet(database.url, {});
  return fleet;
}
async function stopFleet(): Promise<void> {
  if (fleet === undefined) return;
  await fleet.stop();
  fleet = undefined;
  await database.drop();
}
afterAll(stopFleet);

function post(url: string, members: Record<string, string>): Promise<Response> {
  return fetch(url, { method: "POST", body: new URLSearchParams(members) });
}
const refresh = (url: string, refresh_token: string) =>
  post(`${url}/token`, { grant_type: "refresh_token", refresh_token });
const run = (argv: readonly string[], settings: Settings = {}) =>
  runCommand(argv, { settings: { DATABASE_URL: database.url, ...settings } });

async function refusal(answer: Promise<Response>): Promise<string> {
  const response = await answer;
  return response.status < 300 ? "" : ((await response.json()) as { error: string }).error;
}

test("the password table was stolen: everybody is logged out within a second, and comes back with a new password", async () => {
  const names = ["anna", "bob", "carol"];
  const urls = (await startFleet()).urls();
  for (const username of names) await addAccount(database.url, { ...alice, username });
  const [url = "", otherUrl = ""] = urls;
  const sessions = await Promise.all(names.map((username) => login(url, { username })));
  const { rows } = await database.pool.query("select password from keyfleet.accounts");
  for (const { password } of rows) expect(password).not.toMatch(/\$2|keyfleet/);

  const commands = runbookCommands("The password table was stolen");
  expect(commands.map(([, verb]) => verb)).toEqual(["require-password-change", "end-all-sessions"]);
  for (const argv of commands) {
    const { code, stdout } = await run(argv);
    expect([code, stdout.trim().split("\n").length]).toEqual([0, names.length]);
    // Nobody gets a session any more, from the first of them on: the second leaves none.
    for (const username of names) {
      expect(await refusal(postLogin(otherUrl, { username }))).toBe("password_change_required");
    }
  }
  for (const each of urls) {
    await eventually(async () => {
      const { events } = (await readSnapshot(each)).snapshot;
      return sessions.every(({ session_id }) => events.some(({ id }) => id === session_id));
    }, 1000);
  }
  const { rows: alive } = await database.pool.query("select from keyfleet.sessions where ended_at is null");
  expect(alive).toEqual([]);
  for (const { access_token, refresh_token } of sessions) {
    expect(await refusal(refresh(otherUrl, refresh_token))).toBe("invalid_grant");
    const headers = { authorization: `Bearer ${access_token}` };
    expect((await fetch(`${otherUrl}/userinfo`, { headers })).status).toBe(401);
  }
  for (const username of names) {
    expect(await refusal(postLogin(url, { username }))).toBe("password_change_required");
    const members = {
      username,
      current_password: alice.password,
      new_password: `${username}: as good as new`,
    };
    // Who stole the password as well as the table, and is slower, is too late.
    expect(await refusal(post(`${url}/password`, members))).toBe("");
    expect(await refusal(post(`${otherUrl}/password`, members))).toBe("invalid_credentials");
    await login(otherUrl, { username, password: members.new_password });
  }
}, 40_000);

test("a signing key was stolen: metric and log line name it, and what the runbook says to type ends it", async () => {
  const fixture = await startEndpointFixture();
  try {
    const { instance, clientSecrets } = fixture;
    const forger = await createForger(fixture);
    const asShop = basic("shop", clientSecrets.shop);
    const introspected = await fixture.postForm("/introspect", { token: forger.forge() }, asShop);
    expect(introspected.body.toString()).toBe('{"active":false}');
    expect(await readMetric(instance, "keyfleet_forged_tokens_total")).toBe(1);
    const told = logLines(instance).find(({ msg }) =>
      String(msg).startsWith("a key signed a token that was never issued"),
    );
    const kid = String(told?.["kid"]);
    expect((await fixture.send("GET", `/.well-known/jwks/${kid}`)).status).toBe(200);

    const [thief] = (await createInstanceStore(fixture.database.pool).list()).filter(
      ({ id }) => id !== instance.instanceId,
    );
    const words = { KID: kid, ID: String(thief?.id) };
    const results: CommandResult[] = [];
    for (const argv of runbookCommands("A signing key was stolen", words)) {
      results.push(await runTyped(argv, { DATABASE_URL: fixture.database.url }, "y"));
    }
    expect(results.map(({ code }) => code)).toEqual([0, 0]);
    expect(results.map(({ stdout }) => stdout.split("\n")[1])).toEqual([
      `revoked ${kid}`,
      "no unexpired keys",
    ]);
    await eventually(
      async () => (await fixture.send("GET", `/.well-known/jwks/${kid}`)).status === 410,
      1000,
    );
    const { body } = await fixture.send("GET", "/.well-known/jwks.json");
    expect(body.toString()).not.toContain(kid);
    await fixture.login();
  } finally {
    await fixture.stop();
  }
}, 30_000);

describe("FLEET_SECRET has leaked", () => {
  const next = randomBytes(32).toString("base64url");
  const nextId = createFleetSecrets(Buffer.from(next, "base64url")).current.id;
  const typed = runbookCommands("FLEET_SECRET has leaked");
  const resealing = typed.find(([name]) => name === "reseal") ?? [];
  const both = { FLEET_SECRET: next, FLEET_SECRET_ALSO: testSecret };

  async function reseal(): Promise<Record<string, { resealed: number; foreign: number }>> {
    const { code, stdout } = await run([...resealing, "--json"], both);
    expect(code).toBe(0);
    const rows = JSON.parse(stdout) as { table: string; resealed: number; foreign: number }[];
    return Object.fromEntries(rows.map(({ table, resealed, foreign }) => [table, { resealed, foreign }]));
  }

  /** How many rows are sealed, or encrypted, under another secret than the new one. */
  async function behind(table: string, also = "false"): Promise<number> {
    const { rowCount } = await database.pool.query(
      `select from keyfleet.${table} t where secret_id <> $1 or ${also}`,
      [nextId],
    );
    return rowCount ?? 0;
  }
  const sessionsBehind = () => behind("sessions", "refresh_seal_secret_id <> $1");

  /** Kills it while it waits for the middle one of these sessions. */
  async function resealAndKill(sessions: readonly TokenResponse[]): Promise<void> {
    const ids = sessions.map(({ session_id }) => session_id).sort();
    await inTransaction(database.pool, async (locking) => {
      await locking.query("select from keyfleet.sessions where id = $1 for update", [
        ids[Math.floor(ids.length / 2)],
      ]);
      const command = typeCommand(resealing, { DATABASE_URL: database.url, ...both });
      await eventually(async () => {
        const { rowCount } = await database.pool.query(
          `select from pg_stat_activity where datname = current_database()
             and wait_event_type = 'Lock' and query like 'update keyfleet.sessions%set secret_id%'`,
        );
        return rowCount === 1;
      });
      command.kill();
      await command.result;
    });
  }

  afterEach(async () => {
    await people?.stop();
    people = undefined;
    // It has another secret now.
    await stopFleet();
  });

  test("it is changed under load, reseal killed in between, and no login or session is lost; the old one opens nothing", async () => {
    const running = await startFleet();
    await addAccount(database.url);
    await addAccount(database.url, { ...alice, username: "kept" });
    await addClient(database, { id: "shop", audiences: ["https://api.example"], scopes: [] });
    const accounts = createAccountStore(database.pool);
    await accounts.insert(strangersAccount(person("stranger")), testActing);
    const anyUrl = () => running.urls()[0] ?? "";
    const quiet = await Promise.all(Array.from({ length: 12 }, () => login(anyUrl())));
    const [restored, interrupted] = quiet as [TokenResponse, TokenResponse];
    const { rows: kept } = await database.pool.query(
      "select id from keyfleet.accounts where username = 'kept'",
    );
    const restoreSession = await keepColumns(
      database.pool,
      "sessions",
      "secret_id, seal, refresh_seal_secret_id, refresh_seal",
      restored.session_id,
    );
    const restoreAccount = await keepColumns(
      database.pool,
      "accounts",
      "password, secret_id, seal",
      kept[0]?.id,
    );
    // Its answer is repeated later, when the secret that it was derived under is gone.
    const successor = (await (await refresh(anyUrl(), interrupted.refresh_token)).json()) as TokenResponse;
    const load = startPeople({ urls: running.urls, people: 3, pauseMs: 100 });
    people = load;

    await running.replaceAll({ FLEET_SECRET: testSecret, FLEET_SECRET_ALSO: next });
    await running.replaceAll(both);
    // Control, and the reason for the first step: forged under the leaked secret before the cut, it is believed.
    await accounts.insert(ourAccount(person("early")), testActing);
    expect(await refusal(postLogin(anyUrl(), person("early")))).toBe("");
    const lists = await Promise.all(
      typed.filter((argv) => argv !== resealing).map((argv) => run(argv, both)),
    );
    expect(lists.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(lists[0]?.stdout).toContain("early");
    const before = await sessionsBehind();
    await resealAndKill(quiet);
    const left = await sessionsBehind();
    expect([left > 0, left < before]).toEqual([true, true]);

    const first = await reseal();
    expect(first["sessions"]?.resealed).toBeGreaterThan(0);
    let last = first;
    for (let runs = 0; runs < 5 && Object.values(last).some(({ resealed }) => resealed > 0); runs += 1) {
      last = await reseal();
    }
    expect(last).toEqual({
      signing_keys: { resealed: 0, foreign: 0 },
      accounts: { resealed: 0, foreign: 1 },
      clients: { resealed: 0, foreign: 0 },
      sessions: { resealed: 0, foreign: 0 },
    });
    await running.replaceAll({ FLEET_SECRET: next });
    await load.stop();
    expect(load.failures).toEqual([]);
    expect(load.count.refused).toBe(0);
    console.log(`logins and refreshes while FLEET_SECRET was changed: ${JSON.stringify(load.count)}`);
    expect(load.count.logins).toBeGreaterThan(load.count.refreshes / 20);

    expect([await sessionsBehind(), await behind("clients"), await behind("signing_keys")]).toEqual([
      0, 0, 0,
    ]);
    expect(await behind("accounts", "split_part(password, '.', 1) <> $1")).toBe(1);
    await expectOldSecretIsWorthless(running, { restored, restoreSession, restoreAccount });
    for (const { refresh_token } of quiet.slice(2))
      expect(await refusal(refresh(anyUrl(), refresh_token))).toBe("");
    expect(await refusal(refresh(anyUrl(), interrupted.refresh_token))).toBe("invalid_grant");
    expect(await refusal(refresh(anyUrl(), successor.refresh_token))).toBe("");
  }, 90_000);

  async function expectOldSecretIsWorthless(
    running: RollingFleet,
    kept: {
      restored: TokenResponse;
      restoreSession(): Promise<unknown>;
      restoreAccount(): Promise<unknown>;
    },
  ): Promise<void> {
    await kept.restoreSession();
    await kept.restoreAccount();
    await createAccountStore(database.pool).insert(ourAccount(person("late")), testActing);
    const [owner] = running.serving;
    const key = ourKey({ instanceId: owner?.instanceId ?? "" });
    await insertKey(database.pool, key);
    for (const instance of running.serving) {
      const { url } = instance;
      expect(await refusal(postLogin(url, person("late")))).toBe("invalid_credentials");
      expect(await refusal(postLogin(url, { username: "kept" }))).toBe("invalid_credentials");
      expect(await refusal(refresh(url, kept.restored.refresh_token))).toBe("invalid_grant");
      await eventually(async () => (await readMetric(instance, "keyfleet_directory_rejected_keys")) === 1);
      expect((await fetch(`${url}/.well-known/jwks/${key.kid}`)).status).toBe(404);
    }
    const { code } = await run(["accounts", "grant", "alice", "x"], { FLEET_SECRET: testSecret });
    expect([code, testSecrets.current.id === nextId]).toEqual([1, false]);
  }
});
