/** The periods that bound every signing key: pure functions of a cron expression and a time, in UTC. */

import { createTask, parse, validateDetailed } from "node-cron";
import { dayMs } from "../clock.ts";

/** From `startMs` (included) to `endMs` (excluded), milliseconds since 1970. */
export interface Period {
  readonly startMs: number;
  readonly endMs: number;
}

export interface PeriodSchedule {
  readonly expression: string;
  /** The period that `nowMs` lies in. */
  periodAt(nowMs: number): Period;
  /** The period that begins where this one ends. */
  periodAfter(period: Period): Period;
}

/** Leap years that a century skips: the longest wait for 29 February is eight years. */
const searchDays = 366 * 8 + 2;
const shortestPeriodSearch = 1000;

/** Why the expression cannot be a rotation schedule; undefined where it can. */
export function scheduleProblem(expression: string): string | undefined {
  const { valid, errors } = validateDetailed(expression);
  if (!valid) return `is not a cron expression: ${errors.map((error) => error.message).join("; ")}`;
  return undefined;
}

/**
 * Five fields, or six with seconds first, always UTC. As in node-cron, day-of-month and day-of-week must both match.
 * node-cron's `parse` gives the times of day and its `match`, which is pure, the rules for days.
 * Throws where `scheduleProblem` would find one, or where no day ever matches.
 */
export function createPeriodSchedule(expression: string): PeriodSchedule {
  const problem = scheduleProblem(expression);
  if (problem !== undefined) throw new RangeError(`the schedule ${problem}`);
  const fields = parse(expression);
  const timesOfDayMs = readTimesOfDay(fields);
  const firstTimeOfDayMs = timesOfDayMs[0] ?? 0;
  const task = isEveryDay(fields) ? undefined : createTask(expression, () => undefined, { timezone: "UTC" });
  void task?.destroy();
  /** Asked for one day many times over, and slow. */
  let known = { dayStartMs: Number.NaN, matches: false };
  function matchesDay(dayStartMs: number): boolean {
    if (task === undefined) return true;
    if (known.dayStartMs !== dayStartMs)
      known = { dayStartMs, matches: task.match(new Date(dayStartMs + firstTimeOfDayMs)) };
    return known.matches;
  }

  function after(timeMs: number): number {
    let dayStartMs = startOfDay(timeMs);
    for (let day = 0; day < searchDays; day += 1, dayStartMs += dayMs) {
      if (!matchesDay(dayStartMs)) continue;
      const timeOfDayMs = timesOfDayMs.find((candidate) => dayStartMs + candidate > timeMs);
      if (timeOfDayMs !== undefined) return dayStartMs + timeOfDayMs;
    }
    throw new RangeError("the schedule never occurs");
  }

  function atOrBefore(timeMs: number): number {
    let dayStartMs = startOfDay(timeMs);
    for (let day = 0; day < searchDays; day += 1, dayStartMs -= dayMs) {
      if (!matchesDay(dayStartMs)) continue;
      const timeOfDayMs = timesOfDayMs.findLast((candidate) => dayStartMs + candidate <= timeMs);
      if (timeOfDayMs !== undefined) return dayStartMs + timeOfDayMs;
    }
    throw new RangeError("the schedule never occurs");
  }

  /** Both are asked for all the time, and change once a period. */
  let latest: Period | undefined;
  let following: Period | undefined;
  return {
    expression,
    periodAt(nowMs) {
      if (latest === undefined || nowMs < latest.startMs || nowMs >= latest.endMs) {
        latest = { startMs: atOrBefore(nowMs), endMs: after(nowMs) };
      }
      return latest;
    },
    periodAfter(period) {
      if (following?.startMs !== period.endMs)
        following = { startMs: period.endMs, endMs: after(period.endMs) };
      return following;
    },
  };
}

/**
 * The shortest period, in milliseconds, of the next thousand or of eight years, whichever is less: what a propagation
 * delay has to fit into.
 */
export function shortestPeriodMs(schedule: PeriodSchedule, nowMs: number): number {
  let period = schedule.periodAt(nowMs);
  let shortestMs = period.endMs - period.startMs;
  const untilMs = nowMs + searchDays * dayMs;
  for (let searched = 0; searched < shortestPeriodSearch && period.endMs < untilMs; searched += 1) {
    period = schedule.periodAfter(period);
    shortestMs = Math.min(shortestMs, period.endMs - period.startMs);
  }
  return shortestMs;
}

type CronFields = ReturnType<typeof parse>;

function isEveryDay({ dayOfMonth, month, dayOfWeek }: CronFields): boolean {
  return dayOfMonth.length === 31 && month.length === 12 && dayOfWeek.length === 7;
}

function readTimesOfDay({ hour, minute, second }: CronFields): number[] {
  const ascending = (values: number[]) => [...values].sort((a, b) => a - b);
  return ascending(hour).flatMap((h) =>
    ascending(minute).flatMap((m) => ascending(second).map((s) => ((h * 60 + m) * 60 + s) * 1000)),
  );
}

function startOfDay(timeMs: number): number {
  return Math.floor(timeMs / dayMs) * dayMs;
}
