import { describe, expect, test } from "@jest/globals";
import { createFleetClock, minuteMs } from "../src/clock.ts";

const databaseStartMs = 1_800_000_000_000;

/** A monotonic clock that is set by hand, and a database whose clock is `offsetMs` ahead of it. */
function setUp() {
  let monotonicMs = 5000;
  let offsetMs = databaseStartMs;
  const clock = createFleetClock({ nowMs: () => monotonicMs });
  return {
    clock,
    advance: (byMs: number) => {
      monotonicMs += byMs;
    },
    stepDatabase: (byMs: number) => {
      offsetMs += byMs;
    },
    trueMs: () => monotonicMs + offsetMs,
    /** One reading whose answer comes after `roundTripMs`, made by the database `atShare` of the way. */
    sync: (roundTripMs = 2, atShare = 0.5) => {
      const sentAtMs = monotonicMs;
      const databaseMs = sentAtMs + roundTripMs * atShare + offsetMs;
      monotonicMs += roundTripMs;
      return clock.observe({ sentAtMs, receivedAtMs: monotonicMs, databaseMs });
    },
  };
}

describe("the fleet's clock", () => {
  test("says nothing before the first reading", () => {
    const { clock } = setUp();
    expect(clock.isSteady()).toBe(false);
    expect(() => clock.nowMs()).toThrow("has not been read");
  });

  test("follows the database's clock, to half a round trip", () => {
    const { clock, sync, advance, trueMs } = setUp();
    expect(sync(400, 1)).toEqual({ type: "set" });
    expect(Math.abs(clock.nowMs() - trueMs())).toBeLessThanOrEqual(clock.errorMs());
    sync(4, 0);
    advance(500);
    expect(clock.errorMs()).toBe(2);
    expect(Math.abs(clock.nowMs() - trueMs())).toBeLessThanOrEqual(2);
    expect(clock.isSteady()).toBe(true);
  });

  test("does not follow a step, and is not steady until three readings agree over a minute", () => {
    const { clock, sync, advance, stepDatabase, trueMs } = setUp();
    sync();
    const before = clock.nowMs();
    stepDatabase(3_600_000);
    expect(sync()).toMatchObject({ type: "stepped" });
    expect(clock.isSteady()).toBe(false);
    expect(clock.nowMs() - before).toBeLessThan(10);
    advance(minuteMs / 2);
    expect(sync()).toBeUndefined();
    expect(clock.isSteady()).toBe(false);
    advance(minuteMs / 2);
    const event = sync();
    expect(event?.type).toBe("adopted");
    expect(event?.type === "adopted" && Math.round(event.byMs)).toBe(3_600_000);
    expect(clock.isSteady()).toBe(true);
    expect(Math.abs(clock.nowMs() - trueMs())).toBeLessThan(5);
  });

  test("two readings over a minute are not enough", () => {
    const { clock, sync, advance, stepDatabase } = setUp();
    sync();
    stepDatabase(-10_000);
    sync();
    advance(2 * minuteMs);
    sync();
    expect(clock.isSteady()).toBe(false);
    sync();
    expect(clock.isSteady()).toBe(true);
  });

  test("readings that disagree with each other start the minute anew", () => {
    const { clock, sync, advance, stepDatabase } = setUp();
    sync();
    stepDatabase(10_000);
    sync();
    advance(minuteMs - 1000);
    sync();
    stepDatabase(10_000);
    advance(2000);
    sync();
    expect(clock.isSteady()).toBe(false);
    advance(minuteMs);
    sync();
    sync();
    expect(clock.isSteady()).toBe(true);
  });

  test("a slow answer is no step: its error is allowed for", () => {
    const { clock, sync } = setUp();
    sync();
    expect(sync(9000, 1)).toBeUndefined();
    expect(sync(9000, 0)).toBeUndefined();
    expect(clock.isSteady()).toBe(true);
  });

  test("a drift is followed", () => {
    const { clock, sync, advance, stepDatabase, trueMs } = setUp();
    sync();
    for (let second = 0; second < 120; second += 1) {
      advance(1000);
      stepDatabase(50);
      sync();
    }
    expect(clock.isSteady()).toBe(true);
    expect(Math.abs(clock.nowMs() - trueMs())).toBeLessThan(500);
  });
});
