/** Random fleets: their settings and what happens to them, as fast-check makes and shrinks them. */

import fc from "fast-check";
import { createPeriodSchedule, shortestPeriodMs } from "../../src/keys/period-schedule.ts";
import type { FleetSettings } from "./simulated-instance.ts";

export interface PlannedSettings {
  readonly schedule: string;
  readonly startsAt: Date;
  /** Of the shortest period. */
  readonly propagationShare: number;
  readonly syncIntervalMs: number;
  readonly accessTokenTtlMs: number;
  readonly verifyGraceMs: number;
  readonly maxSigners: number;
  /** Of one message, at most. */
  readonly latencyMs: number;
  readonly seed: number;
}

/** `at` counts through the live instances, over and over. */
export type Action =
  | { readonly do: "start"; readonly jitter: number; readonly slowMs: number }
  | { readonly do: "kill"; readonly at: number }
  | { readonly do: "stop"; readonly at: number }
  | { readonly do: "mend"; readonly at: number }
  /** `heldUpMs`: how long its first statement is under way. */
  | { readonly do: "login"; readonly at: number; readonly heldUpMs?: number }
  | { readonly do: "loginAll" }
  | {
      readonly do: "cut";
      readonly at: number;
      readonly afterStatements: number;
      readonly answerLost: boolean;
    }
  | { readonly do: "cutAll" }
  | { readonly do: "mendAll" }
  /** An instance ends the row of another, dead or not. */
  | { readonly do: "end"; readonly at: number; readonly which: number }
  | { readonly do: "advance"; readonly of: Span; readonly share: number }
  /** To the end of the running period, or a little before or after. */
  | { readonly do: "boundary"; readonly offsetMs: number }
  /** An instance is frozen for a while, perhaps with its clock, and asked for a token the moment that it goes on. */
  | {
      readonly do: "freeze";
      readonly at: number;
      readonly of: Span;
      readonly share: number;
      readonly clockStops: boolean;
      readonly endedBy: number | null;
    }
  | { readonly do: "lose"; readonly newest: number }
  /** The first does something whose commit takes its time, and the others do something meanwhile. */
  | {
      readonly do: "race";
      readonly at: number;
      readonly steps: readonly RaceStep[];
      readonly waitMs: number;
      /** A period has just begun, and nobody has published its next key yet. */
      readonly keysAreDue: boolean;
    };

export type Span = "interval" | "second" | "period" | "lifetime";

export interface RaceStep {
  readonly what: "login" | "stop" | "beat";
  /** Counted from the first one's instance. */
  readonly next: number;
}

type Members<Of> = { [Name in keyof Of]: fc.Arbitrary<Of[Name]> };

/** As an object literal, so that it reads like one in a counterexample. */
function record<Of>(members: Members<Of>): fc.Arbitrary<Of> {
  return fc.record(members, { noNullPrototype: true }) as fc.Arbitrary<Of>;
}

const minuteOfHour = fc.integer({ min: 0, max: 59 });

function cronList(values: fc.Arbitrary<number>, maxLength: number): fc.Arbitrary<string> {
  return fc
    .uniqueArray(values, { minLength: 1, maxLength })
    .map((list) => list.sort((a, b) => a - b).join(","));
}

/** Periods from one second to a week, even and uneven. */
const schedules = fc.oneof(
  cronList(minuteOfHour, 8).map((seconds) => `${seconds} * * * * *`),
  fc.constantFrom(
    "* * * * * *",
    "*/5 * * * * *",
    "*/30 * * * * *",
    "*/5 * * * *",
    "0 */6 * * *",
    "0 0 * * 0",
  ),
  cronList(minuteOfHour, 4).map((minutes) => `${minutes} * * * *`),
  fc
    .tuple(minuteOfHour, cronList(fc.integer({ min: 0, max: 23 }), 4))
    .map(([minute, hours]) => `${minute} ${hours} * * *`),
);

export const plannedSettings: fc.Arbitrary<PlannedSettings> = record({
  schedule: schedules,
  startsAt: fc.date({
    min: new Date("2026-01-01T00:00:00Z"),
    max: new Date("2030-01-01T00:00:00Z"),
    noInvalidDate: true,
  }),
  propagationShare: fc.constantFrom(0, 0.1, 0.5, 0.95),
  syncIntervalMs: fc.constantFrom(50, 500, 2000, 10_000),
  accessTokenTtlMs: fc.oneof(
    fc.constantFrom(1000, 60_000, 900_000),
    fc.integer({ min: 1000, max: 3_600_000 }),
  ),
  verifyGraceMs: fc.constantFrom(0, 1, 1500, 600_000, 86_400_000),
  maxSigners: fc.constantFrom(16, 2, 1),
  latencyMs: fc.constantFrom(0, 0, 0.5, 20),
  seed: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
});

const at = fc.nat({ max: 5 });
const share = fc.oneof(
  fc.constantFrom(0.001, 1, 2.2),
  fc.integer({ min: 1, max: 3000 }).map((thousandths) => thousandths / 1000),
);
const of = fc.constantFrom<Span>("interval", "interval", "second", "period", "lifetime");
const jitter = fc.constantFrom(0, 0.5, 0.999);
const raceSteps: fc.Arbitrary<readonly RaceStep[]> = fc.oneof(
  fc.constantFrom<readonly RaceStep[]>(
    [
      { what: "login", next: 0 },
      { what: "stop", next: 0 },
      { what: "login", next: 0 },
    ],
    [
      { what: "stop", next: 0 },
      { what: "login", next: 0 },
    ],
    [
      { what: "beat", next: 0 },
      { what: "beat", next: 1 },
    ],
  ),
  fc.array(
    record<RaceStep>({
      what: fc.constantFrom("login", "login", "stop", "beat"),
      next: fc.constantFrom(0, 0, 1, 2),
    }),
    { minLength: 2, maxLength: 4 },
  ),
);

function action<Name extends Action["do"]>(
  name: Name,
  members: Omit<Members<Extract<Action, { do: Name }>>, "do">,
): fc.Arbitrary<Action> {
  return record({ do: fc.constant(name), ...members } as unknown as Members<Action>);
}

const laterActions: fc.Arbitrary<readonly Action[]> = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: action("advance", { of, share }) },
    { weight: 4, arbitrary: action("login", { at, heldUpMs: fc.constantFrom(0, 0, 30, 700, 1900) }) },
    { weight: 8, arbitrary: action("loginAll", {}) },
    { weight: 5, arbitrary: action("start", { jitter, slowMs: fc.constantFrom(0, 0, 700) }) },
    { weight: 3, arbitrary: action("boundary", { offsetMs: fc.integer({ min: -1500, max: 1500 }) }) },
    {
      weight: 3,
      arbitrary: action("race", {
        at,
        steps: raceSteps,
        waitMs: fc.integer({ min: 0, max: 900 }),
        keysAreDue: fc.boolean(),
      }),
    },
    {
      weight: 2,
      arbitrary: action("cut", {
        at,
        afterStatements: fc.constantFrom(0, 1, 1, 2, 3),
        answerLost: fc.boolean(),
      }),
    },
    { weight: 1, arbitrary: action("mend", { at }) },
    {
      weight: 2,
      arbitrary: action("freeze", { at, of, share, clockStops: fc.boolean(), endedBy: fc.option(at) }),
    },
    { weight: 1, arbitrary: action("kill", { at }) },
    { weight: 1, arbitrary: action("stop", { at }) },
    { weight: 1, arbitrary: action("end", { at, which: fc.nat(9) }) },
    { weight: 1, arbitrary: action("cutAll", {}) },
    { weight: 4, arbitrary: action("mendAll", {}) },
    { weight: 1, arbitrary: action("lose", { newest: fc.integer({ min: 1, max: 4 }) }) },
  ),
  { maxLength: 40, size: "max" },
);

/** A fleet begins with an instance. */
export const actions: fc.Arbitrary<readonly Action[]> = laterActions.map((later) => [
  { do: "start", jitter: 0.5, slowMs: 0 },
  ...later,
]);

export function readSettings(planned: PlannedSettings): FleetSettings {
  const schedule = createPeriodSchedule(planned.schedule);
  const { syncIntervalMs, accessTokenTtlMs, verifyGraceMs, maxSigners } = planned;
  const shortestMs = shortestPeriodMs(schedule, planned.startsAt.getTime());
  const propagationDelayMs = Math.floor(planned.propagationShare * shortestMs);
  return { schedule, propagationDelayMs, syncIntervalMs, accessTokenTtlMs, verifyGraceMs, maxSigners };
}
