import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { parse } from "node-cron";
import { dayMs, hourMs, minuteMs, secondMs } from "../../src/clock.ts";
import { createPeriodSchedule, scheduleProblem, shortestPeriodMs } from "../../src/keys/period-schedule.ts";

const at = (iso: string) => Date.parse(iso);

/** The slow way: whether each field of the expression holds, second by second. */
function occursAt(
  { second, minute, hour, dayOfMonth, month, dayOfWeek }: ReturnType<typeof parse>,
  timeMs: number,
): boolean {
  const date = new Date(timeMs);
  const lastDay = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
  const isDay =
    dayOfMonth.includes(date.getUTCDate()) || (dayOfMonth.includes("L") && date.getUTCDate() === lastDay);
  return (
    second.includes(date.getUTCSeconds()) &&
    minute.includes(date.getUTCMinutes()) &&
    hour.includes(date.getUTCHours()) &&
    isDay &&
    month.includes(date.getUTCMonth() + 1) &&
    dayOfWeek.includes(date.getUTCDay())
  );
}

describe("periods", () => {
  test.each([
    ["0 */6 * * *", "2026-03-01T05:59:59.999Z", "2026-03-01T00:00:00Z", "2026-03-01T06:00:00Z"],
    ["0 */6 * * *", "2026-03-01T06:00:00.000Z", "2026-03-01T06:00:00Z", "2026-03-01T12:00:00Z"],
    ["*/10 * * * * *", "2026-12-31T23:59:55Z", "2026-12-31T23:59:50Z", "2027-01-01T00:00:00Z"],
    ["30 2 * * *", "2026-03-29T01:00:00Z", "2026-03-28T02:30:00Z", "2026-03-29T02:30:00Z"],
    ["0 0 1 * *", "2026-02-15T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"],
    ["0 0 29 2 *", "2027-06-01T00:00:00Z", "2024-02-29T00:00:00Z", "2028-02-29T00:00:00Z"],
    ["0 0 29 2 *", "2098-06-01T00:00:00Z", "2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"],
    ["0 0,1 * * *", "2026-05-05T12:00:00Z", "2026-05-05T01:00:00Z", "2026-05-06T00:00:00Z"],
  ])("of %p around %p go from %p to %p", (expression, time, start, end) => {
    const schedule = createPeriodSchedule(expression);
    expect(schedule.periodAt(at(time))).toEqual({ startMs: at(start), endMs: at(end) });
  });

  test("day-of-month and day-of-week must both match", () => {
    const schedule = createPeriodSchedule("0 0 13 * 5");
    expect(schedule.periodAt(at("2026-04-01T00:00:00Z"))).toEqual({
      startMs: at("2026-03-13T00:00:00Z"),
      endMs: at("2026-11-13T00:00:00Z"),
    });
  });

  test("follow each other without a gap, and contain the time they are asked for", () => {
    const expressions = ["*/7 * * * * *", "0 */6 * * *", "15 3 * * 1-5", "0 0 L * *", "5,50 */3 1-10 * *"];
    fc.assert(
      fc.property(
        fc.constantFrom(...expressions),
        fc.integer({ min: at("2000-01-01T00:00:00Z"), max: at("2099-12-31T00:00:00Z") }),
        (expression, timeMs) => {
          const schedule = createPeriodSchedule(expression);
          const period = schedule.periodAt(timeMs);
          expect(period.startMs).toBeLessThanOrEqual(timeMs);
          expect(period.endMs).toBeGreaterThan(timeMs);
          expect(schedule.periodAfter(period).startMs).toBe(period.endMs);
          expect(schedule.periodAt(period.endMs)).toEqual(schedule.periodAfter(period));
          expect(occursAt(parse(expression), period.startMs)).toBe(true);
          expect(occursAt(parse(expression), period.endMs)).toBe(true);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("leave no occurrence out", () => {
    const fromMs = at("2026-02-27T22:00:00Z");
    for (const expression of ["*/13 */7 * * * *", "3 1,23 * * 6", "0 0 28 2 *"]) {
      const schedule = createPeriodSchedule(expression);
      const fields = parse(expression);
      let { endMs } = schedule.periodAt(fromMs);
      for (let timeMs = fromMs + secondMs; timeMs < fromMs + 2 * dayMs; timeMs += secondMs) {
        if (!occursAt(fields, timeMs)) continue;
        expect(endMs).toBe(timeMs);
        endMs = schedule.periodAt(timeMs).endMs;
      }
    }
  });
});

describe("a schedule", () => {
  test.each(["", "* * * *", "61 * * * *", "0 0 31 2 *x", "every hour"])("of %p is refused", (expression) => {
    expect(scheduleProblem(expression)).toBeDefined();
    expect(() => createPeriodSchedule(expression)).toThrow(RangeError);
  });

  test("that never occurs is refused", () => {
    expect(() => createPeriodSchedule("0 0 30 2 *").periodAt(0)).toThrow();
  });

  test("is judged by its shortest period", () => {
    const nowMs = at("2026-05-05T12:00:00Z");
    expect(shortestPeriodMs(createPeriodSchedule("0 0,1 * * *"), nowMs)).toBe(hourMs);
    expect(shortestPeriodMs(createPeriodSchedule("*/7 * * * *"), nowMs)).toBe(4 * minuteMs);
  });
});
