import { describe, expect, test } from "@jest/globals";
import { createPeriodSchedule } from "../../src/keys/period-schedule.ts";
import type { KeyTimes, PublishedKey } from "../../src/keys/published-key.ts";
import {
  isDone,
  plannedPublications,
  publicationDelayMs,
  type RotationSettings,
} from "../../src/keys/rotation-plan.ts";

const hour = 3_600_000;
const startMs = Date.UTC(2026, 0, 1);
const settings: RotationSettings = {
  schedule: createPeriodSchedule("0 * * * *"),
  propagationDelayMs: 12 * 60_000,
  keptAfterRetirementMs: 25 * 60_000,
  jitter: 0,
};

let count = 0;
function published(times: KeyTimes, changes: Partial<PublishedKey> = {}): PublishedKey {
  count += 1;
  const identity = { kid: `k${count}`, x: `x${count}`, alg: "EdDSA", instanceId: "one" } as const;
  const seal = { secretId: "", seal: Buffer.alloc(0) };
  return { ...identity, ...times, retiredEarlyAtMs: null, revokedAtMs: null, seal, ...changes };
}

/** A ring that has published all it should at `nowMs`. */
function ringAt(nowMs: number): PublishedKey[] {
  return plannedPublications([], settings, nowMs).map((times) => published(times));
}

describe("what to publish", () => {
  test("a new ring gets a key for what is left of this period, and one for the next", () => {
    const nowMs = startMs + hour / 2;
    expect(plannedPublications([], settings, nowMs)).toEqual([
      {
        publishedAtMs: nowMs,
        activatesAtMs: nowMs,
        retiresAtMs: startMs + hour,
        expiresAtMs: startMs + hour + settings.keptAfterRetirementMs,
      },
      {
        publishedAtMs: nowMs,
        activatesAtMs: startMs + hour,
        retiresAtMs: startMs + 2 * hour,
        expiresAtMs: startMs + 2 * hour + settings.keptAfterRetirementMs,
      },
    ]);
  });

  test("a whole ring needs nothing until its period ends", () => {
    const ring = ringAt(startMs);
    expect(plannedPublications(ring, settings, startMs + hour - 1)).toEqual([]);
  });

  test("when a period begins, the key for the one after it is published: a whole period before it signs", () => {
    const ring = ringAt(startMs);
    const planned = plannedPublications(ring, settings, startMs + hour);
    expect(planned).toHaveLength(1);
    expect(planned[0]).toMatchObject({ publishedAtMs: startMs + hour, activatesAtMs: startMs + 2 * hour });
  });

  test("jitter spreads that over the period's start, and leaves the key its time to mature", () => {
    const late = { ...settings, jitter: 1 };
    const ring = ringAt(startMs);
    const period = settings.schedule.periodAt(startMs + hour);
    const delayMs = publicationDelayMs(period, late);
    expect(delayMs).toBe(hour / 10);
    expect(plannedPublications(ring, late, startMs + hour + delayMs - 1)).toEqual([]);
    expect(plannedPublications(ring, late, startMs + hour + delayMs)).toHaveLength(1);
    const tight = { ...late, propagationDelayMs: hour - 60_000 };
    expect(publicationDelayMs(period, tight)).toBe(30_000);
  });

  test("after a revocation, and after an early end that another set, both keys are replaced", () => {
    const [current, next] = ringAt(startMs);
    const nowMs = startMs + hour / 2;
    for (const change of [{ revokedAtMs: nowMs }, { retiredEarlyAtMs: nowMs }]) {
      const ring = [current, next].map((key) => ({ ...(key as PublishedKey), ...change }));
      expect(plannedPublications(ring, settings, nowMs).map((times) => times.activatesAtMs)).toEqual([
        nowMs,
        startMs + hour,
      ]);
    }
  });

  test("in the last second of a period no key is made for it", () => {
    const planned = plannedPublications([], settings, startMs + hour - 999);
    expect(planned.map((times) => times.activatesAtMs)).toEqual([startMs + hour]);
  });

  test("times are whole milliseconds", () => {
    for (const times of plannedPublications([], settings, startMs + 0.7)) {
      expect(Object.values(times).every(Number.isInteger)).toBe(true);
    }
  });
});

test("the private half of a key is done a few seconds after its retirement", () => {
  const [current] = ringAt(startMs) as [PublishedKey];
  expect(isDone(current, startMs + hour + 4999)).toBe(false);
  expect(isDone(current, startMs + hour + 5000)).toBe(true);
});
