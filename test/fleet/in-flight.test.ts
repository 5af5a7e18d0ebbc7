import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { createPasswordHasher, type PasswordHasher } from "../../src/accounts/password-hasher.ts";
import { eventually, passwordWorkerUrl } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { amount } from "../support/long-form.ts";
import { addBareAccount, makeHttpRound, makeRound, type Three, wasIssued } from "./in-flight-contestants.ts";
import { countRounds, type Ending, type RoundCounts, runRounds } from "./in-flight-rounds.ts";
import { createInProcessInstance, type InProcessInstance } from "./in-process-instance.ts";

const accountEndings = ["disable", "password", "end-all"] as const;
const abreast = 4;

let hasher: PasswordHasher;
let database: TestDatabase;
let fleet: Three<InProcessInstance>;

beforeAll(async () => {
  hasher = createPasswordHasher({
    workerUrl: passwordWorkerUrl,
    cost: 4,
    threads: 1,
    isEager: true,
    queueLimit: 64,
  });
  database = await freshDatabase();
  const create = () => createInProcessInstance(database.url, hasher);
  fleet = await Promise.all([create(), create(), create()]);
  await delayCommits(10);
});
afterAll(async () => {
  await Promise.all(fleet.map((instance) => instance.close()));
  await hasher.close();
  await database.drop();
});

/** So that endings find logins and refreshes on their way: these commit up to so much later than they could. */
async function delayCommits(upToMs: number): Promise<void> {
  await database.pool.query(`
    create or replace function public.wait_at_commit() returns trigger language plpgsql as $$
    begin perform pg_sleep(random() * ${upToMs} / 1000.0); return null; end $$;
    drop trigger if exists wait_at_commit on keyfleet.sessions;
    create constraint trigger wait_at_commit after insert or update on keyfleet.sessions deferrable initially deferred
      for each row when (new.ended_at is null) execute function public.wait_at_commit()`);
}

async function definitionOf(name: string): Promise<string> {
  const { rows } = await database.pool.query<{ text: string }>(
    "select pg_get_functiondef($1::regproc) as text",
    [`keyfleet.${name}`],
  );
  return rows[0]?.text ?? "";
}

/** Runs `work` with another definition of this function. */
async function withFunction<Result>(
  name: string,
  change: (text: string) => string,
  work: () => Promise<Result>,
): Promise<Result> {
  const text = await definitionOf(name);
  expect(change(text)).not.toBe(text);
  await database.pool.query(change(text));
  try {
    return await work();
  } finally {
    await database.pool.query(text);
  }
}

async function race(endings: readonly Ending[], amount: number): Promise<RoundCounts> {
  const rounds = await runRounds(database, amount, abreast, (index) =>
    makeRound(database, fleet, endings[index % endings.length] ?? "disable", index),
  );
  return countRounds(database, rounds);
}

function expectNothingLeft(what: string, counts: RoundCounts): void {
  console.log(`${what}: ${JSON.stringify(counts)}`);
  expect(counts).toMatchObject({ survivors: 0, tokensAfterEnd: 0 });
  // Else nothing would have raced.
  expect(Math.min(counts.issued, counts.refused)).toBeGreaterThan(counts.rounds / 20);
}

test("no session and no token survives a disabling, a password change or an ending of all sessions", async () => {
  expectNothingLeft("against endings of all of an account", await race(accountEndings, amount(30, 1880)));
}, 120_000);

test("control: where the ending is one statement, sessions survive it", async () => {
  const counts = await withFunction(
    "change_account",
    () => changeAccountInOneStatement,
    () => race(accountEndings, 60),
  );
  console.log(`control, the ending as one statement: ${JSON.stringify(counts)}`);
  expect(counts.survivors).toBeGreaterThan(0);
}, 60_000);

test("no refresh outlives the logout of its session", async () => {
  expectNothingLeft("against logouts", await race(["logout"], amount(40, 200)));
}, 60_000);

test("refreshes that wait for the logout of their session get nothing", async () => {
  expect(await refreshBehindLogout()).toEqual([false, false, false]);
});

test("control: a refresh that judges by a row it has not locked outlives the logout", async () => {
  const unlocked = (text: string) =>
    text.replace("where s.id = p_session_id for update;", "where s.id = p_session_id;");
  expect(await withFunction("refresh_session", unlocked, refreshBehindLogout)).toContain(true);
});

test("over HTTP on three processes, too, nothing survives", async () => {
  // Here an ending is on its way for longer.
  await delayCommits(30);
  const settings = { ISSUER: "http://localhost", LOGIN_ATTEMPTS: "10000" };
  const instances: TestInstance[] = [];
  const start = async () => {
    const instance = await startInstance({ databaseUrl: database.url, settings });
    instances.push(instance);
    return instance.url;
  };
  try {
    const urls = await Promise.all([start(), start(), start()]);
    const endings = [...accountEndings, "logout"] as const;
    const rounds = await runRounds(database, amount(24, 120), abreast, (index) =>
      makeHttpRound(urls, fleet[0], endings[index % endings.length] ?? "disable", index),
    );
    expectNothingLeft("over HTTP", await countRounds(database, rounds));
  } finally {
    await Promise.all(instances.map((instance) => instance.stop("SIGKILL")));
  }
}, 120_000);

/** Three refreshes that find their session's row locked by an ending, which then commits: which of them got a token. */
async function refreshBehindLogout(): Promise<boolean[]> {
  const { session_id: sessionId, refresh_token: token } = await fleet[0].login(
    await addBareAccount(database),
  );
  const logout = await database.pool.connect();
  try {
    await logout.query("begin");
    await logout.query("select keyfleet.end_session($1, 'logout', null)", [sessionId]);
    const waiting = Promise.all(fleet.map((instance) => wasIssued(instance.refresh(token))));
    await eventually(async () => {
      const { rows } = await database.pool.query(
        "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
      );
      return rows.length === fleet.length;
    });
    await logout.query("commit");
    return await waiting;
  } finally {
    logout.release();
  }
}

/** As `change_account`, but that it ends the sessions it saw when it began, before it waited for the account's row. */
const changeAccountInOneStatement = `
  create or replace function keyfleet.change_account(
    p_account keyfleet.accounts, p_version bigint, p_end_sessions boolean, p_keep_session uuid,
    p_event text, p_who keyfleet.acting
  ) returns boolean language sql as $$
    with changed as (
      update keyfleet.accounts a set
        password = p_account.password, scopes = p_account.scopes, enabled = p_account.enabled,
        must_change_password = p_account.must_change_password, version = p_account.version,
        secret_id = p_account.secret_id, seal = p_account.seal
        where a.id = p_account.id and a.version = p_version
        returning a.id, keyfleet.audit(p_who, p_event, a.id, null, null, null, null)
    ), ended as (
      update keyfleet.sessions s set ended_at = pg_catalog.clock_timestamp(), end_reason = p_event
        from changed where p_end_sessions and s.account_id = changed.id and s.ended_at is null
    )
    select exists (select from changed)
  $$`;
