/** Time that passes only when a test says so, for instances and for Postgres alike: the code under test is the real one. */

import type { MonotonicClock } from "../../src/clock.ts";
import type { Queryable } from "../../src/postgres/pool.ts";

const realTime = "pg_catalog.clock_timestamp()";
const virtualTime = "test_time.now()";
/** Every other way to ask Postgres for the time: one that slipped through would mix the two. */
const otherTimes =
  /\b(clock_timestamp|now\(\)|statement_timestamp|transaction_timestamp|current_timestamp|localtimestamp|timeofday)/i;

/** An instance's own clock. It stands still while its machine is suspended. */
export interface VirtualMonotonicClock extends MonotonicClock {
  /** From now on, for as long as that. */
  suspend(durationMs: number): void;
}

export interface VirtualTime {
  /** Milliseconds since 1970 by Postgres's clock, to the microsecond. */
  nowMs(): number;
  pass(durationMs: number): void;
  /** Sets the time, for a new run. */
  set(timeMs: number): void;
  createMonotonicClock(originMs: number): VirtualMonotonicClock;
  /** The same database, in virtual time: give it only what was prepared by `installVirtualTime`. */
  wrap(database: Queryable): Queryable;
}

export function createVirtualTime(): VirtualTime {
  let microseconds = 0;
  let told: number | undefined;
  let telling: Promise<unknown> = Promise.resolve();

  const nowMs = () => microseconds / 1000;

  return {
    nowMs,
    pass(durationMs) {
      microseconds += Math.round(Math.max(0, durationMs) * 1000);
    },
    set(timeMs) {
      microseconds = Math.round(timeMs * 1000);
    },
    createMonotonicClock(originMs) {
      const createdAtMs = nowMs();
      const pauses: { readonly fromMs: number; readonly durationMs: number }[] = [];
      const pausedMs = ({ fromMs, durationMs }: (typeof pauses)[number]) =>
        Math.min(Math.max(0, nowMs() - fromMs), durationMs);
      return {
        nowMs: () =>
          pauses.reduce((timeMs, pause) => timeMs - pausedMs(pause), originMs + nowMs() - createdAtMs),
        suspend(durationMs) {
          pauses.push({ fromMs: nowMs(), durationMs });
        },
      };
    },
    wrap: (database) => ({
      async query(text, values) {
        if (told !== microseconds) {
          const next = microseconds;
          told = next;
          // One after the other: on two connections the earlier time could arrive last.
          telling = telling.then(() => database.query("select setval('test_time.microseconds', $1)", [next]));
        }
        await telling;
        return database.query(inVirtualTime(text), values);
      },
    }),
  };
}

function inVirtualTime(text: string): string {
  const rewritten = text.replaceAll(realTime, virtualTime);
  if (otherTimes.test(rewritten.replaceAll(virtualTime, "")))
    throw new Error(`this statement asks for the real time: ${text}`);
  return rewritten;
}

/**
 * Puts the clock of a test's own database under the test's hand: every function of the schema is made again with
 * another clock, and is otherwise left as it is. The time is a sequence, for that is seen at once by everybody.
 */
export async function installVirtualTime(database: Queryable): Promise<void> {
  await database.query("create schema test_time");
  await database.query("create sequence test_time.microseconds");
  await database.query(
    `create function test_time.now() returns timestamptz language sql volatile as $$
       select timestamptz 'epoch' + last_value * interval '1 microsecond' from test_time.microseconds $$`,
  );
  const { rows } = await database.query<{ definition: string }>(
    `select pg_get_functiondef(p.oid) as definition from pg_proc p
     where p.pronamespace = 'keyfleet'::regnamespace and p.prosrc ~* 'timestamp|now|timeofday'`,
  );
  const rewritten = rows.map(({ definition }) => inVirtualTime(definition));
  if (!rewritten.some((definition) => definition.includes(virtualTime)))
    throw new Error("no function of the schema asks for the time: what is tested here?");
  for (const definition of rewritten) await database.query(definition);
}
