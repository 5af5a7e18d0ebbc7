/** In what the instances of a storm differ: their clocks, and their way to the database. They take turns. */

import { fastClocks, jumpingCalendar, wrongCalendar } from "../support/wrong-calendar.ts";

export interface Trait {
  /** As the ledger counts tokens by it. */
  readonly name: string;
  /** Given to Node before the program. */
  readonly nodeFlags?: readonly string[];
  /** In place of the database's own: of a pooler before it, past which notifications go. */
  readonly databaseUrl?: string;
}

const clocks: readonly Trait[] = [
  { name: "right clocks" },
  { name: "a clock an hour ahead", nodeFlags: wrongCalendar("3_600_000") },
  { name: "a clock an hour behind", nodeFlags: wrongCalendar("-3_600_000") },
  { name: "clocks that run fast", nodeFlags: fastClocks },
  { name: "a clock that jumps", nodeFlags: jumpingCalendar },
];

const throughPooler = "pgbouncer before the database";

/** The traits of the instance of that number, counted from 1: every third goes through the pooler, where there is one. */
export function traitsOf(number: number, poolerUrl: string | undefined): readonly Trait[] {
  const clock = clocks[number % clocks.length] as Trait;
  const goesThroughPooler = number % 3 === 0 && poolerUrl !== undefined;
  return goesThroughPooler ? [clock, { name: throughPooler, databaseUrl: poolerUrl }] : [clock];
}

export function traitNames(withPooler: boolean): readonly string[] {
  return [...clocks.map(({ name }) => name), ...(withPooler ? [throughPooler] : [])];
}
