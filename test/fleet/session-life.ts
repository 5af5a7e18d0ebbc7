/** Does to a real fleet what actions say, for one person, and holds every answer against the model. */

import { expect } from "@jest/globals";
import { eventually } from "../support/accounts.ts";
import type { TestDatabase } from "../support/database.ts";
import type { Answer, RestartingFleet } from "./restarting-fleet.ts";
import type { Action, Ending } from "./session-actions.ts";
import { makeUpRefreshToken, type Person } from "./session-person.ts";

export interface ModelSession {
  readonly id: string;
  /** Refresh tokens by generation, from 0; the last is the current one. */
  readonly tokens: string[];
  isAlive: boolean;
}

/** `successor`: 200 with the next generation. `refused`: without effect. `ends`: refused, and the session is over. */
export type Verdict = "successor" | "refused" | "ends";

export interface Model {
  /** `isInGrace`: whether the token's first use was less than REFRESH_GRACE ago. */
  refresh(session: ModelSession, generation: number, isInGrace: boolean): Verdict;
  /** Whether a session outlives this ending, that its own client asked for, or another's of the account. */
  outlives(ending: Ending, isOwn: boolean): boolean;
}

export interface World {
  readonly database: TestDatabase;
  readonly fleet: RestartingFleet;
  readonly graceMs: number;
  readonly model: Model;
  /** Counts what happened, by name. */
  saw(what: string): void;
}

/** The machine was too slow to tell on which side of the grace a request came: the script is given up. */
export class TooSlow extends Error {}

/** By how much an instance's estimate of Postgres's clock may be off. */
const uncertainMs = 50;
/** What is replayed within the grace needs this to be answered. */
const neededMs = 300;
/** A token may be repeated ten times; a request that is lost is repeated by itself. */
const mostPresented = 6;

interface TrackedSession extends ModelSession {
  readonly accessTokens: string[];
  /** By generation: when it was first used, between two readings of Postgres's clock. */
  readonly used: { fromMs: number; toMs: number }[];
  readonly presented: number[];
  /** A refresh that raced its end may have been answered first, the answer lost, and been too late when asked again. */
  mayHaveRotated?: boolean;
}

type ActionOf<Type extends Action["type"]> = Action & { readonly type: Type };

export function createLife({ database, fleet, graceMs, model, saw }: World, person: Person) {
  const sessions: TrackedSession[] = [];
  /** Sessions that a login whose answer was lost may have begun. */
  let unknownSessions = 0;

  async function nowMs(): Promise<number> {
    const { rows } = await database.pool.query<{ ms: number }>(
      "select extract(epoch from clock_timestamp())::float8 * 1000 as ms",
    );
    return rows[0]?.ms ?? Number.NaN;
  }

  const currentOf = (session: ModelSession) => session.tokens.length - 1;
  const tokenOf = (session: ModelSession, generation: number) => session.tokens[generation] ?? "";

  async function login(slot: number): Promise<TrackedSession> {
    const { status, body, lost } = await person.login(slot);
    expect(status).toBe(200);
    unknownSessions += lost;
    const [tokens, accessTokens] = [[String(body["refresh_token"])], [String(body["access_token"])]];
    const id = String(body["session_id"]);
    const session: TrackedSession = { id, tokens, accessTokens, used: [], presented: [], isAlive: true };
    sessions.push(session);
    return session;
  }

  /** A live one where there is one, and now and then any. */
  async function pick(index: number): Promise<TrackedSession> {
    const alive = sessions.filter(({ isAlive }) => isAlive);
    const candidates = index % 4 === 0 ? sessions : alive;
    return (alive.length > 0 && candidates[index % candidates.length]) || login(index);
  }

  /** Every 200 has the one successor; the first of them makes it known. Returns how many there were. */
  function takeSuccessors(session: TrackedSession, generation: number, answers: readonly Answer[]): number {
    const successors = answers.filter(({ status }) => status === 200);
    for (const { status, body } of answers) {
      if (status !== 200) expect([status, body["error"]]).toEqual([400, "invalid_grant"]);
    }
    for (const { body } of successors) {
      session.tokens[generation + 1] ??= String(body["refresh_token"]);
      expect(body["session_id"]).toBe(session.id);
      expect(body["refresh_token"]).toBe(session.tokens[generation + 1]);
      session.accessTokens.push(String(body["access_token"]));
    }
    return successors.length;
  }

  /** Waits where it would be too close to the end of the grace to tell. */
  async function isInGrace(session: TrackedSession, generation: number, waits: boolean): Promise<boolean> {
    const used = session.used[generation];
    if (used === undefined) return true;
    if (!waits && (await nowMs()) + neededMs < used.fromMs - uncertainMs + graceMs) return true;
    await eventually(async () => (await nowMs()) > used.toMs + uncertainMs + graceMs);
    return false;
  }

  function noteUse(session: TrackedSession, generation: number, fromMs: number, toMs: number): void {
    const used = session.used[generation] ?? { fromMs, toMs };
    session.used[generation] = used;
    if (toMs > used.fromMs - uncertainMs + graceMs) throw new TooSlow();
  }

  /** Presents one token at all these slots at once, and expects what the model says. */
  async function present(
    session: TrackedSession,
    generation: number,
    slots: readonly number[],
    afterGrace = false,
  ): Promise<void> {
    const isCurrent = generation === currentOf(session);
    const inGrace = await isInGrace(session, generation, afterGrace);
    const fromMs = await nowMs();
    const token = tokenOf(session, generation);
    const answers = await Promise.all(slots.map((slot) => person.refresh(slot, token)));
    if (inGrace) noteUse(session, generation, fromMs, await nowMs());
    session.presented[generation] = (session.presented[generation] ?? 0) + slots.length;

    const verdict = model.refresh(session, generation, inGrace);
    const successors = takeSuccessors(session, generation, answers);
    const expected = verdict === "successor" ? slots.length : 0;
    expect({ verdict, successors }).toEqual({ verdict, successors: expected });
    const age = isCurrent ? "current" : `older ${inGrace ? "in" : "after"} its grace`;
    saw(`${age}: ${session.isAlive ? verdict : "over"}`);
    if (verdict === "ends") session.isAlive = false;
  }

  async function lose(session: TrackedSession, action: ActionOf<"lose">): Promise<void> {
    const generation = currentOf(session);
    const asked = fleet.member(action.slot);
    const fromMs = await nowMs();
    session.used[generation] = { fromMs, toMs: fromMs };
    session.presented[generation] = 1;
    const hungUp = person.refreshAndHangUp(asked, tokenOf(session, generation), action.afterMs);
    if (action.how === "client hangs up") await hungUp;
    else await new Promise((resolve) => setTimeout(resolve, action.afterMs));
    const wasKilled = action.how === "instance killed" && fleet.crash(action.slot);
    await present(session, generation, action.slots);
    await Promise.all([hungUp, fleet.settle(asked)]);
    const toMs = await nowMs();
    noteUse(session, generation, fromMs, toMs);
    session.used[generation] = { fromMs, toMs };
    saw(wasKilled ? "lost: instance killed" : "lost: client hung up");
  }

  async function forge(session: TrackedSession, { ahead, at, slot }: ActionOf<"forge">): Promise<void> {
    const madeUp = makeUpRefreshToken(session.id, Math.max(0, currentOf(session) + ahead));
    const ask = at === "/token" ? person.refresh : person.logoutByRefreshToken;
    const { status, body } = await ask(slot, madeUp);
    expect([status, body["error"]]).toEqual([400, "invalid_grant"]);
    saw(`made up: ${at}`);
  }

  async function end(session: TrackedSession, { by, slot, racing }: ActionOf<"end">): Promise<void> {
    const generation = currentOf(session);
    const token = tokenOf(session, generation);
    const refresh = tokenOf(session, slot % session.tokens.length);
    const access = session.accessTokens.at(-1) ?? "";
    const fromMs = await nowMs();
    const [, ...answers] = await Promise.all([
      person.end(by, slot, { access, refresh }),
      ...racing.map((at) => person.refresh(at, token)),
    ]);
    const toMs = await nowMs();
    const successors = takeSuccessors(session, generation, answers);
    for (const other of sessions) {
      if (!model.outlives(by, other === session)) other.isAlive = false;
    }
    saw(by);
    if (racing.length > 0) {
      if (session.isAlive) expect(successors).toBe(racing.length);
      session.mayHaveRotated = successors === 0 && answers.some(({ lost }) => lost > 0);
      noteUse(session, generation, fromMs, toMs);
      saw(`raced: ${successors > 0 ? "some were faster" : "none was faster"}`);
    }
    if (by !== "disabling") return;
    expect((await person.login(slot)).status).toBe(401);
    await person.enable();
  }

  async function replay(session: TrackedSession, action: ActionOf<"replay">): Promise<void> {
    const generation = currentOf(session) - action.back;
    const isWornOut = (session.presented[generation] ?? 0) > mostPresented;
    if (generation < 0 || isWornOut) return;
    await present(session, generation, action.slots, action.afterGrace);
  }

  /** The first and the last access token of each session are active as long as it is alive. */
  async function introspectAll(slot: number): Promise<void> {
    const introspect = async ({ id, isAlive }: TrackedSession, token: string) => {
      let { body } = await person.introspect(slot, token);
      // On a starving machine an instance may read of a new key later than it should.
      const untilMs = performance.now() + 2000;
      while (isAlive && body["active"] === false && performance.now() < untilMs) {
        ({ body } = await person.introspect(slot, token));
      }
      if (isAlive) expect(body).toMatchObject({ active: true, rid: id });
      else expect(body).toEqual({ active: false });
    };
    await Promise.all(
      sessions.flatMap((session) =>
        [...new Set([session.accessTokens[0] ?? "", session.accessTokens.at(-1) ?? ""])].map((token) =>
          introspect(session, token),
        ),
      ),
    );
  }

  /** What the database holds: nothing alive, and nothing rotated, but what is known. */
  async function expectRows(): Promise<void> {
    const { rows } = await database.pool.query<{ id: string; generation: number; alive: boolean }>(
      "select id, generation, ended_at is null as alive from keyfleet.sessions where account_id = $1",
      [person.accountId],
    );
    const byId = new Map(rows.map((row) => [row.id, row]));
    for (const { id, tokens, isAlive, mayHaveRotated = false } of sessions) {
      const known = tokens.length - 1;
      const generation = mayHaveRotated && byId.get(id)?.generation === known + 1 ? known + 1 : known;
      expect(byId.get(id)).toEqual({ id, generation, alive: isAlive });
    }
    const surplus = rows.filter(({ alive }) => alive).length - sessions.filter((s) => s.isAlive).length;
    expect(surplus).toBeLessThanOrEqual(unknownSessions);
  }

  return {
    async act(action: Action): Promise<void> {
      if (action.type === "login") await login(action.slot);
      else if (action.type === "crash") {
        await new Promise((resolve) => setTimeout(resolve, action.afterMs));
        if (fleet.crash(action.slot)) saw("crash");
      } else {
        const session = await pick(action.session);
        if (action.type === "refresh") await present(session, currentOf(session), action.slots);
        else if (action.type === "replay") await replay(session, action);
        else if (action.type === "forge") await forge(session, action);
        // The others take a session that is alive.
        else if (!session.isAlive) return;
        else if (action.type === "lose") await lose(session, action);
        else await end(session, action);
      }
    },
    introspectAll,
    /** What is alive goes on; what is over stays over, whichever of its tokens comes; in the end all is over. */
    async close(): Promise<void> {
      for (const session of sessions) {
        if (session.isAlive) await present(session, currentOf(session), [0]);
        else for (const token of session.tokens) takeNone(await person.refresh(1, token));
      }
      await expectRows();
      await person.disable();
      unknownSessions = 0;
      for (const session of sessions) {
        session.isAlive = false;
        takeNone(await person.refresh(2, tokenOf(session, currentOf(session))));
      }
      await introspectAll(0);
      await expectRows();
    },
  };
}

function takeNone({ status, body }: Answer): void {
  expect([status, body["error"]]).toEqual([400, "invalid_grant"]);
}
