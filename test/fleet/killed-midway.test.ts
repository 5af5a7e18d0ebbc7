import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { replaceInFunction } from "../postgres/fleet-rows.ts";
import { addAccount, alice, eventually, login } from "../support/accounts.ts";
import { freshDatabase, inTransaction, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { readSnapshot } from "../support/revocation-stream.ts";

/** kill -9 of an instance between the beginning of a change and its answer: all of it is done, or nothing. */

const settings = { ISSUER: "http://localhost", LOGIN_ATTEMPTS: "1000" };
const newPassword = "another horse battery staple";
let database: TestDatabase;
let witness: TestInstance;

beforeAll(async () => {
  database = await freshDatabase();
  witness = await startInstance({ databaseUrl: database.url, settings });
}, 30_000);
afterAll(async () => {
  await witness?.stop("SIGKILL");
  await database.drop();
});

interface Act {
  readonly name: string;
  /** What is on the log once it is done. */
  readonly revokes: "session" | "token" | undefined;
  /** What it is answered where it is done, and where it had been done before. */
  readonly done: number;
  readonly doneAlready: number;
  ask(url: string, tokens: TokenResponse, username: string): Promise<Response>;
}

const post = (url: string, members: Record<string, string>, bearer?: string) =>
  fetch(url, {
    method: "POST",
    headers: bearer === undefined ? {} : { authorization: `Bearer ${bearer}` },
    body: new URLSearchParams(members),
  });

const acts: readonly Act[] = [
  {
    name: "refresh",
    ...{ revokes: undefined, done: 200, doneAlready: 200 },
    ask: (url, { refresh_token }) => post(`${url}/token`, { grant_type: "refresh_token", refresh_token }),
  },
  {
    name: "logout",
    ...{ revokes: "session", done: 204, doneAlready: 204 },
    ask: (url, { access_token }) => post(`${url}/logout`, {}, access_token),
  },
  {
    name: "logout by refresh token",
    ...{ revokes: "session", done: 204, doneAlready: 204 },
    ask: (url, { refresh_token }) => post(`${url}/logout`, { refresh_token }),
  },
  {
    name: "logout of all",
    ...{ revokes: "session", done: 204, doneAlready: 401 },
    ask: (url, { access_token }) => post(`${url}/logout`, { all: "true" }, access_token),
  },
  {
    name: "revocation of an access token",
    ...{ revokes: "token", done: 200, doneAlready: 200 },
    ask: (url, { access_token }) => post(`${url}/revoke`, { token: access_token }),
  },
  {
    name: "revocation of a refresh token",
    ...{ revokes: "session", done: 200, doneAlready: 200 },
    ask: (url, { refresh_token }) => post(`${url}/revoke`, { token: refresh_token }),
  },
  {
    name: "password change",
    ...{ revokes: "session", done: 204, doneAlready: 401 },
    ask: (url, _, username) =>
      post(`${url}/password`, { username, current_password: alice.password, new_password: newPassword }),
  },
];

/** Everything that a change may write. */
async function readState(): Promise<readonly string[]> {
  const readings = [
    ...["accounts", "sessions", "issued_tokens", "revocations"].map((table) => `t from keyfleet.${table} t`),
    "revocation_number from keyfleet.fleet_state",
  ];
  const rows = readings.map(async (reading) => {
    const found = await database.pool.query<{ text: string }>(
      `select (t.*)::text as text from (select ${reading}) t`,
    );
    return found.rows.map(({ text }) => text);
  });
  return (await Promise.all(rows)).flat().sort();
}

const doomedName = "doomed";
const statementsOfDoomed = async (condition: string) =>
  (
    await database.pool.query(
      `select pid from pg_stat_activity where datname = current_database()
         and application_name = '${doomedName}' and ${condition}`,
    )
  ).rows.map(({ pid }) => Number(pid));

/** Has `end` happen while every act waits, at an instance of its own, for the last row that it writes. */
async function interrupt(
  people: ReadonlyMap<Act, { username: string; tokens: TokenResponse }>,
  end: (doomed: TestInstance, unlock: () => Promise<unknown>) => Promise<void>,
): Promise<void> {
  const url = new URL(database.url);
  url.searchParams.set("application_name", doomedName);
  // Longer than by default: all of them are to wait at once.
  for (const timeout of ["lock_timeout", "statement_timeout", "query_timeout"])
    url.searchParams.set(timeout, "10000");
  const doomed = await startInstance({ databaseUrl: url.href, settings });
  try {
    await inTransaction(database.pool, async (locking) => {
      await locking.query(
        "select from keyfleet.fleet_state for update; lock table keyfleet.issued_tokens in share mode",
      );
      const answers = [...people].map(([act, { tokens, username }]) =>
        act.ask(doomed.url, tokens, username).then(
          ({ status }) => status,
          () => "none",
        ),
      );
      await eventually(
        async () => (await statementsOfDoomed("wait_event_type = 'Lock'")).length === acts.length,
      );
      await end(doomed, () => locking.query("commit"));
      expect(await Promise.all(answers)).toEqual(acts.map(() => "none"));
    });
  } finally {
    await doomed.stop("SIGKILL");
  }
  await eventually(async () => (await statementsOfDoomed("state = 'active'")).length === 0);
}

async function makePeople(prefix: string) {
  const people = new Map<Act, { username: string; tokens: TokenResponse }>();
  for (const act of acts) {
    const username = `${prefix} ${act.name}`;
    await addAccount(database.url, { ...alice, username });
    people.set(act, { username, tokens: await login(witness.url, { username }) });
  }
  return people;
}

/** However it was interrupted, it is done once, and at most once, when it is asked for again at another instance. */
async function expectRepeatable(
  people: Awaited<ReturnType<typeof makePeople>>,
  status: "done" | "doneAlready",
): Promise<void> {
  for (const [act, { tokens, username }] of people) {
    const answer = await act.ask(witness.url, tokens, username);
    expect([act.name, answer.status]).toEqual([act.name, act[status]]);
    const { rows } = await database.pool.query(
      "select generation, ended_at is null as alive from keyfleet.sessions where id = $1",
      [tokens.session_id],
    );
    const alive = act.revokes !== "session";
    expect(rows).toEqual([{ generation: act.revokes === undefined ? 1 : 0, alive }]);
    const id = act.revokes === "token" ? decodeJwt(tokens.access_token).jti : tokens.session_id;
    await eventually(async () => {
      const { events } = (await readSnapshot(witness.url)).snapshot;
      return events.filter((event) => event.id === id).length === (act.revokes === undefined ? 0 : 1);
    });
  }
}

test("killed with its statements unfinished, an instance has done nothing, and another one does it", async () => {
  const people = await makePeople("unfinished");
  const before = await readState();
  await interrupt(people, async (doomed) => {
    doomed.process.kill("SIGKILL");
    // As the database finds out, sooner or later, that nobody is there.
    for (const pid of await statementsOfDoomed("true"))
      await database.pool.query("select pg_terminate_backend($1)", [pid]);
    await eventually(async () => (await statementsOfDoomed("true")).length === 0);
  });
  expect(await readState()).toEqual(before);
  await expectRepeatable(people, "done");
}, 40_000);

test("killed after the commit and before the answer, it has done everything, and it is not done twice", async () => {
  const people = await makePeople("unanswered");
  const before = await readState();
  await interrupt(people, async (doomed, unlock) => {
    // It hears of nothing any more.
    doomed.process.kill("SIGSTOP");
    await unlock();
    await eventually(async () => (await statementsOfDoomed("state = 'active'")).length === 0);
    doomed.process.kill("SIGKILL");
  });
  // What the other test finds unchanged would have shown it.
  expect(await readState()).not.toEqual(before);
  const { rows } = await database.pool.query(
    "select id from keyfleet.sessions where ended_at is null and id = any ($1)",
    [[...people.values()].map(({ tokens }) => tokens.session_id)],
  );
  const kept = [...people].filter(([act]) => act.revokes !== "session");
  expect(rows.map(({ id }) => id).sort()).toEqual(kept.map(([, { tokens }]) => tokens.session_id).sort());
  await expectRepeatable(people, "doneAlready");

  // Control: did nobody look whether it was done, the log would have a second time what is answered a second time.
  await replaceInFunction(database.pool, "end_session", / and ended_at is null/, "");
  await replaceInFunction(database.pool, "revoke_token", / and t\.revoked_at is null/, "");
  const twice: string[] = [];
  for (const [act, { tokens, username }] of people) {
    await act.ask(witness.url, tokens, username);
    const { rows } = await database.pool.query("select id from keyfleet.revocations where id = any ($1)", [
      [tokens.session_id, decodeJwt(tokens.access_token).jti],
    ]);
    if (rows.length === 2) twice.push(act.name);
  }
  const again = acts.filter(({ revokes, doneAlready }) => revokes !== undefined && doneAlready !== 401);
  expect(twice).toEqual(again.map(({ name }) => name));
}, 40_000);
