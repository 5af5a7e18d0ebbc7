/** Rounds of a race: those who want tokens against who ends what these would be of; and what is left afterwards. */

import type { TestDatabase } from "../support/database.ts";

export type Ending = "disable" | "password" | "end-all" | "logout";

export interface Round {
  readonly accountId: string;
  readonly ending: Ending;
  /** Each asks for a token, and resolves to whether it got one. */
  readonly racers: readonly (() => Promise<boolean>)[];
  end(): Promise<unknown>;
}

export interface EndedRound {
  readonly accountId: string;
  /** Postgres's snapshot just after the ending was answered: what it does not show was committed later. */
  readonly snapshot: string;
  readonly issued: number;
  readonly refused: number;
}

export interface RoundCounts {
  readonly rounds: number;
  /** How many racers were faster than the ending, and how many were not: a race has both. */
  readonly issued: number;
  readonly refused: number;
  /** Sessions that the ending should have ended, and that are alive. */
  readonly survivors: number;
  /** Tokens of such sessions that were committed after the ending had been answered. */
  readonly tokensAfterEnd: number;
}

/** Ending and racers start at random within about the time that such an ending takes. */
async function runRound(database: TestDatabase, round: Round, usualMs: number) {
  const within = (ms: number) => new Promise((resolve) => setTimeout(resolve, Math.random() * ms));
  let tookMs = 0;
  const end = async () => {
    await within(usualMs / 2);
    const startedAtMs = performance.now();
    await round.end();
    tookMs = performance.now() - startedAtMs;
    return database.pool.query<{ snapshot: string }>("select pg_current_snapshot()::text as snapshot");
  };
  const [{ rows }, ...racers] = await Promise.all([
    end(),
    ...round.racers.map((race) => within(usualMs).then(race)),
  ]);
  const issued = racers.filter((won) => won).length;
  const ended: EndedRound = {
    accountId: round.accountId,
    snapshot: rows[0]?.snapshot ?? "",
    issued,
    refused: racers.length - issued,
  };
  return { ended, tookMs };
}

/** Makes and runs them, `abreast` at a time. */
export async function runRounds(
  database: TestDatabase,
  amount: number,
  abreast: number,
  make: (index: number) => Promise<Round>,
): Promise<readonly EndedRound[]> {
  const endedRounds: EndedRound[] = [];
  const usuallyMs = new Map<Ending, number>();
  let begun = 0;
  const lane = async () => {
    while (begun < amount) {
      begun += 1;
      const round = await make(begun);
      const usualMs = usuallyMs.get(round.ending) ?? 5;
      const { ended, tookMs } = await runRound(database, round, usualMs);
      usuallyMs.set(round.ending, 0.9 * usualMs + 0.1 * tookMs);
      endedRounds.push(ended);
    }
  };
  await Promise.all(Array.from({ length: abreast }, lane));
  return endedRounds;
}

/**
 * Once everything of the rounds has come to rest. Who ends all sessions of an account does not keep it from logging
 * in again: a session that began after that is none of the ending's.
 */
export async function countRounds(
  database: TestDatabase,
  ended: readonly EndedRound[],
): Promise<RoundCounts> {
  const { rows } = await database.pool.query<{ survivors: number; tokens: number }>(
    `with ended as (
       select e.account_id, e.snapshot,
              (select max(a.at) from keyfleet.audit_events a
               where a.account_id = e.account_id and a.event = 'all_sessions_ended') as reopened_at
       from unnest($1::uuid[], $2::pg_snapshot[]) e (account_id, snapshot)
     ), concerned as (
       select s.id, s.ended_at, e.snapshot from keyfleet.sessions s join ended e using (account_id)
       where s.auth_time <= coalesce(e.reopened_at, s.auth_time)
     )
     select (select count(*)::int from concerned where ended_at is null) as survivors,
            (select count(*)::int from concerned c join keyfleet.issued_tokens t on t.session_id = c.id
             where not pg_visible_in_snapshot(t.xmin::text::xid8, c.snapshot)) as tokens`,
    [ended.map(({ accountId }) => accountId), ended.map(({ snapshot }) => snapshot)],
  );
  const sum = (key: "issued" | "refused") => ended.reduce((total, round) => total + round[key], 0);
  const { survivors = Number.NaN, tokens = Number.NaN } = rows[0] ?? {};
  const [issued, refused] = [sum("issued"), sum("refused")];
  return { rounds: ended.length, issued, refused, survivors, tokensAfterEnd: tokens };
}
