/** Time as the fleet sees it: every instance estimates Postgres's clock and never asks its own calendar. */

/** Milliseconds since 1970 by Postgres's clock, as estimated here. */
export interface Clock {
  nowMs(): number;
}

/** Milliseconds since some fixed moment; never steps. */
export interface MonotonicClock {
  nowMs(): number;
}

export const monotonicClock: MonotonicClock = { nowMs: () => performance.now() };

export const secondMs = 1000;
export const minuteMs = 60 * secondMs;
export const hourMs = 60 * minuteMs;
export const dayMs = 24 * hourMs;

/** RFC 7519 §2. */
export function toNumericDate(ms: number): number {
  return Math.floor(ms / secondMs);
}

/** One reading of Postgres's clock: monotonic times just before and after the round trip, and what it said. */
export interface ClockSample {
  readonly sentAtMs: number;
  readonly receivedAtMs: number;
  readonly databaseMs: number;
}

/** A difference larger than this, beyond the reading's own error, is a step: noticed, and not followed. */
export const stepThresholdMs = 2 * secondMs;
const adoptAfterSamples = 3;
const adoptAfterMs = minuteMs;
const keptReadings = 8;

interface Reading {
  readonly atMs: number;
  readonly offsetMs: number;
  readonly errorMs: number;
}

export type ClockEvent =
  | { readonly type: "set" }
  | { readonly type: "stepped"; readonly byMs: number }
  | { readonly type: "adopted"; readonly byMs: number };

/** The estimate of Postgres's clock: `nowMs` throws before the first reading. */
export interface FleetClock extends Clock {
  /** Takes a reading in; returns what it changed, if it changed anything that others should know. */
  observe(sample: ClockSample): ClockEvent | undefined;
  /** False before the first reading, and from a step until three readings agree over a minute. */
  isSteady(): boolean;
  /**
   * Half the round trip of the reading that the estimate stands on, in milliseconds. What this process's own clock runs
   * wrong since then, for eight readings at most, comes on top.
   */
  errorMs(): number;
}

function toReading(sample: ClockSample): Reading {
  const errorMs = (sample.receivedAtMs - sample.sentAtMs) / 2;
  const atMs = sample.sentAtMs + errorMs;
  return { atMs, errorMs, offsetMs: sample.databaseMs - atMs };
}

function agree(a: Reading, b: Reading): boolean {
  return Math.abs(a.offsetMs - b.offsetMs) <= stepThresholdMs + a.errorMs + b.errorMs;
}

function mostExact(readings: readonly Reading[]): Reading {
  return readings.reduce((best, reading) => (reading.errorMs <= best.errorMs ? reading : best));
}

/**
 * While steady, the estimate is the most exact of the last eight readings. A reading that differs by a step is
 * set aside: the old offset is kept until three readings agree with each other over a minute, whichever they say.
 */
export function createFleetClock(monotonic: MonotonicClock): FleetClock {
  let readings: Reading[] = [];
  let disputed: Reading[] | undefined;

  function adopt(reading: Reading, agreeing: Reading[]): ClockEvent {
    const byMs = reading.offsetMs - mostExact(readings).offsetMs;
    readings = agreeing.slice(-keptReadings);
    disputed = undefined;
    return { type: "adopted", byMs };
  }

  return {
    nowMs() {
      if (readings.length === 0) throw new Error("the fleet's clock has not been read yet");
      return monotonic.nowMs() + mostExact(readings).offsetMs;
    },
    isSteady: () => readings.length > 0 && disputed === undefined,
    errorMs: () => (readings.length === 0 ? Number.POSITIVE_INFINITY : mostExact(readings).errorMs),
    observe(sample) {
      const reading = toReading(sample);
      if (readings.length === 0) {
        readings = [reading];
        return { type: "set" };
      }
      if (disputed === undefined) {
        const estimate = mostExact(readings);
        if (agree(reading, estimate)) {
          readings = [...readings, reading].slice(-keptReadings);
          return undefined;
        }
        disputed = [reading];
        return { type: "stepped", byMs: reading.offsetMs - estimate.offsetMs };
      }
      const first = disputed[0];
      disputed = first !== undefined && agree(reading, first) ? [...disputed, reading] : [reading];
      const agreedForMs = reading.atMs - (disputed[0] ?? reading).atMs;
      if (disputed.length < adoptAfterSamples || agreedForMs < adoptAfterMs) return undefined;
      return adopt(reading, disputed);
    },
  };
}
