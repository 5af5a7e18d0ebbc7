import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { decodeProtectedHeader } from "jose";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { runCommand } from "../cli/run-command.ts";
import { addAccount, eventually, login, postLogin } from "../support/accounts.ts";
import { freshDatabase, inTransaction, type TestDatabase } from "../support/database.ts";
import {
  readMetric,
  type Settings,
  startInstance,
  type TestInstance,
  untilItSigns,
} from "../support/instance.ts";
import { openStream, revocationOf, type StreamConnection } from "../support/revocation-stream.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";
import { type People, startPeople } from "./people.ts";
import { expectRevoked, goneAtMs, serves } from "./revoked-keys.ts";
import { runTyped, typeCommand } from "./typed-command.ts";

let database: TestDatabase;
let listenProxy: TcpProxy;
/** Whose keys no test revokes. */
let witness: TestInstance;
/** Has other keys once these are revoked. */
let renewing: TestInstance;
let stream: StreamConnection | undefined;
let people: People | undefined;
const started: TestInstance[] = [];
const settings = { ISSUER: "http://localhost" };

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  listenProxy = await startTcpProxy(database.url);
  [witness, renewing] = await Promise.all([start(), start()]);
}, 20_000);
afterEach(async () => {
  stream?.close();
  await people?.stop();
  [stream, people] = [undefined, undefined];
});
afterAll(async () => {
  await Promise.all(started.map((instance) => instance.stop("SIGKILL")));
  await listenProxy.close();
  await database.drop();
});

async function start(more: Settings = {}): Promise<TestInstance> {
  const instance = await startInstance({ databaseUrl: database.url, settings: { ...settings, ...more } });
  started.push(instance);
  return instance;
}

/** With keys that are not revoked; what it issued so far has expired, and is nobody's loss. */
async function takeRenewing(): Promise<TestInstance> {
  await untilItSigns(renewing);
  await database.pool.query(
    "update keyfleet.issued_tokens set expires_at = clock_timestamp() where instance_id = $1",
    [renewing.instanceId],
  );
  return renewing;
}

const commandSettings = () => ({ DATABASE_URL: database.url });
const kidOf = ({ access_token }: TokenResponse) => decodeProtectedHeader(access_token).kid ?? "";
const question = (tokens: number, sessions: number) =>
  `this refuses ${tokens} unexpired tokens of ${sessions} sessions; their clients refresh\n`;

/** Not revoked, by the database; the one that signs first. */
async function ringOf({ instanceId }: TestInstance): Promise<string[]> {
  const { rows } = await database.pool.query<{ kid: string }>(
    "select kid from keyfleet.signing_keys where instance_id = $1 and revoked_at is null order by activates_at",
    [instanceId],
  );
  return rows.map(({ kid }) => kid);
}

function refresh({ url }: TestInstance, { refresh_token }: TokenResponse): Promise<Response> {
  const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token });
  return fetch(`${url}/token`, { method: "POST", body });
}

const statusOfToken = async ({ url }: TestInstance, { access_token }: TokenResponse) =>
  (await fetch(`${url}/userinfo`, { headers: { authorization: `Bearer ${access_token}` } })).status;

test("nothing is revoked unless a person says yes: it is asked with what is affected, and any other answer is no", async () => {
  const owner = await takeRenewing();
  const ring = await ringOf(owner);
  const [signing = "", next = ""] = ring;
  const [first] = [await login(owner.url), await login(owner.url), await login(witness.url)];
  expect((await refresh(owner, first)).status).toBe(200);
  // One that expired is nobody's loss.
  await database.pool.query(
    `insert into keyfleet.issued_tokens
     select 'expired ' || jti, gen_random_uuid(), kid, instance_id, client_id, audience, scope,
       issued_at - interval '1 hour', clock_timestamp(), null from keyfleet.issued_tokens where kid = $1 limit 1`,
    [signing],
  );
  const commands = [
    ["keys", "revoke", signing],
    ["keys", "revoke", next],
    ["instances", "revoke", owner.instanceId],
  ];
  const answers = ["n", "yess", undefined];
  const runs = answers.map((answer, index) =>
    runTyped(commands[index % commands.length] ?? [], commandSettings(), answer),
  );
  const unasked = runCommand(["keys", "revoke", signing], { settings: commandSettings(), stdin: "y\n" });
  for (const { code, stdout, stderr } of await Promise.all([...runs, unasked])) {
    expect([code, stdout]).toEqual([1, question(3, 2)]);
    expect(stderr).toMatch(/^(Go on\? \[y\/N\] )?nothing was revoked\n$/);
  }
  expect(await ringOf(owner)).toEqual(ring);
  expect(kidOf(await login(owner.url))).toBe(signing);

  const unknown = [
    ["keys", "revoke", "x", "--yes"],
    ["keys", "revoke", `-${"y".repeat(42)}`, "--yes"],
    ["instances", "revoke", "x", "--yes"],
  ];
  for (const { code, stderr } of await Promise.all(
    unknown.map((argv) => runCommand(argv, { settings: commandSettings() })),
  )) {
    expect([code, stderr]).toEqual([1, expect.stringMatching(/^there is no (key|instance) of this /)]);
  }
}, 30_000);

describe("keys revoke", () => {
  test("takes the whole ring of the process from everywhere; it goes on with another, and its clients refresh elsewhere", async () => {
    const owner = await takeRenewing();
    const both = [owner, witness];
    const ring = await ringOf(owner);
    const clients = [await login(owner.url), await login(owner.url)];
    const others = await login(witness.url);
    stream = await openStream(witness.url);
    const { events } = stream;
    await eventually(() => events.some(({ type }) => type === "ready"));

    const gone = goneAtMs(both, ring);
    // By the key that does not even sign yet.
    const command = typeCommand(["keys", "revoke", ring[1] ?? ""], commandSettings());
    expect(await command.asked()).toBe(question(2, 2));
    command.answer("y");
    const { code, stdout, endedAtMs } = await command.result;
    expect([code, stdout.split("\n").length]).toEqual([0, 3]);
    for (const kid of ring) expect(stdout).toContain(kid);

    for (const client of clients) {
      const refreshed = await refresh(witness, client);
      expect(refreshed.status).toBe(200);
      const tokens = (await refreshed.json()) as TokenResponse;
      expect(ring).not.toContain(kidOf(tokens));
      expect(await statusOfToken(witness, tokens)).toBe(200);
    }
    const afterMs = Math.round((await gone) - endedAtMs);
    console.log(`a revoked key is gone from every JWKS ${afterMs} ms after the command's end`);
    expect(afterMs).toBeLessThan(1000);
    await eventually(() => {
      const ids = events.filter(({ type }) => type === "revocation").map((event) => revocationOf(event));
      return ring.every((kid) => ids.some(({ type, id }) => type === "key" && id === kid));
    }, 1000);
    await expectRevoked(both, ring);
    for (const instance of both) {
      for (const client of clients) expect(await statusOfToken(instance, client)).toBe(401);
      expect(await statusOfToken(instance, others)).toBe(200);
    }
    // Until its new keys are settled, the witness signs for it.
    await eventually(async () => {
      const answer = await postLogin(owner.url);
      return answer.ok && (await ringOf(owner)).includes(kidOf((await answer.json()) as TokenResponse));
    });
    const fresh = await login(owner.url);
    expect(await ringOf(owner)).toContain(kidOf(fresh));
    expect(await statusOfToken(witness, fresh)).toBe(200);

    // What was refused already is not counted again: these are the tokens of the two logins since.
    const again = await runTyped(["instances", "revoke", owner.instanceId], commandSettings(), "n");
    expect(again.stdout).toBe(question(2, 2));
  }, 30_000);

  test("is obeyed by the issuing statement at once: a process that has not heard of it issues nothing under those keys", async () => {
    const more = { FLEET_SYNC_INTERVAL: "2s", DATABASE_LISTEN_URL: listenProxy.url };
    const deaf = await start(more);
    const ring = await ringOf(deaf);
    // Until its keys have settled it borrows; some seconds later it asks no lender any more, whose answer it would not hear.
    await eventually(async () => ring.includes(kidOf(await login(deaf.url))));
    await eventually(async () => {
      const { rows } = await database.pool.query(
        "select from keyfleet.signing_keys where kid = $1 and published_at < clock_timestamp() - interval '7 seconds'",
        [ring[0]],
      );
      return rows.length === 1;
    });
    listenProxy.setMode("hang");
    // Just after a reading, so that the next one is far; and without a command, whose end takes longer than that.
    await eventually(async () => (await readMetric(deaf, "keyfleet_fleet_sync_age_seconds")) < 0.15);
    await database.pool.query("select keyfleet.revoke_instance_keys($1, false, 'test', null)", [
      deaf.instanceId,
    ]);
    let refusedUnheard = 0;
    while (await serves(deaf, ring)) {
      const { status } = await postLogin(deaf.url);
      expect([status, ring.length]).toEqual([503, 2]);
      if (await serves(deaf, ring)) refusedUnheard += 1;
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    expect(refusedUnheard).toBeGreaterThan(0);
    const { rows } = await database.pool.query(
      `select t.jti from keyfleet.issued_tokens t join keyfleet.signing_keys k using (kid)
       where k.kid = any ($1) and t.issued_at >= k.revoked_at`,
      [ring],
    );
    expect(rows).toEqual([]);
    await expectRevoked([deaf], ring);
  }, 30_000);
});

test("instances revoke: the process stops signing for good, others go on, and users notice nothing", async () => {
  const owner = await start();
  const ring = await ringOf(owner);
  const going = startPeople({ urls: () => [owner.url, witness.url], people: 3, pauseMs: 80 });
  people = going;
  await eventually(() => going.count.refreshes > 5);
  const refused = await login(owner.url);
  const argv = ["instances", "revoke", owner.instanceId, "--yes"];
  const { code, stdout, stderr } = await runCommand(argv, { settings: commandSettings() });
  expect([code, stderr]).toEqual([0, ""]);
  expect(stdout).toMatch(
    /^this refuses \d+ unexpired tokens of \d+ sessions[^\n]*\nrevoked \S{43}, \S{43}\n$/,
  );
  const answer = await postLogin(owner.url);
  expect([answer.status, answer.headers.get("retry-after")]).toEqual([503, "1"]);
  await goneAtMs([owner, witness], ring);
  await expectRevoked([owner, witness], ring);

  await eventually(async () => (await readMetric(owner, "keyfleet_signer")) === 0);
  expect(await ringOf(owner)).toEqual([]);
  expect((await postLogin(owner.url)).status).toBe(503);
  expect((await fetch(`${owner.url}/readyz/issue`)).status).toBe(503);
  expect((await fetch(`${owner.url}/readyz`)).status).toBe(200);
  const listed = await runCommand(["instances", "list", "--json"], { settings: commandSettings() });
  const instances = JSON.parse(listed.stdout) as Record<string, unknown>[];
  expect(instances.find(({ id }) => id === owner.instanceId)).toMatchObject({ alive: false, keys: 0 });

  const before = going.count.refreshes;
  await eventually(() => going.count.refreshes > before + 5);
  await going.stop();
  expect(going.failures).toEqual([]);
  expect(await statusOfToken(witness, refused)).toBe(401);
  const refreshed = await refresh(witness, refused);
  expect(await statusOfToken(witness, (await refreshed.json()) as TokenResponse)).toBe(200);
  // By now it would have published others, where it might.
  expect(await ringOf(owner)).toEqual([]);
}, 40_000);

test("a command, and the process itself, killed in the middle leave nothing half revoked; run again, it is whole", async () => {
  const owner = await start();
  const ring = await ringOf(owner);
  const argv = ["keys", "revoke", ring[0] ?? "", "--yes"];
  await inTransaction(database.pool, async (locking) => {
    // The last row that the revocation writes.
    await locking.query("select from keyfleet.fleet_state for update");
    const command = typeCommand(argv, commandSettings());
    await eventually(async () => {
      const { rowCount } = await database.pool.query(
        `select from pg_stat_activity where datname = current_database()
           and wait_event_type = 'Lock' and query like '%revoke_instance_keys%'`,
      );
      return rowCount === 1;
    });
    command.kill();
    await Promise.all([command.result, owner.stop("SIGKILL")]);
    expect(await ringOf(owner)).toEqual(ring);
    await database.pool.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and query like '%revoke_instance_keys%' and pid <> pg_backend_pid()`,
    );
  });
  const traces = async () => {
    const { rows } = await database.pool.query(
      `select (select count(*)::int from keyfleet.signing_keys where kid = any ($1) and revoked_at is not null) as keys,
         (select count(*)::int from keyfleet.revocations where id = any ($1)) as log,
         (select count(*)::int from keyfleet.audit_events where kid = any ($1) and event = 'key_revoked') as audit`,
      [ring],
    );
    return rows[0];
  };
  expect(await traces()).toEqual({ keys: 0, log: 0, audit: 0 });
  expect(await serves(witness, ring)).toBe(true);

  expect((await runCommand(argv, { settings: commandSettings() })).code).toBe(0);
  expect(await traces()).toEqual({ keys: 2, log: 2, audit: 2 });
  await goneAtMs([witness], ring);
  await expectRevoked([witness], ring);
}, 30_000);
