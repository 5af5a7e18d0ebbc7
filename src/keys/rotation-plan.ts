/** What a key ring should do now: pure functions of its keys, the schedule and the time. */

import type { Period, PeriodSchedule } from "./period-schedule.ts";
import { type KeyTimes, type PublishedKey, retirementMs } from "./published-key.ts";

/** Everything the plan depends on but time. Durations in milliseconds. */
export interface RotationSettings {
  readonly schedule: PeriodSchedule;
  readonly propagationDelayMs: number;
  /** ACCESS_TOKEN_TTL + VERIFY_GRACE: how long a key outlives its retirement. */
  readonly keptAfterRetirementMs: number;
  /** From 0 to 1, this instance's own: spreads the publications of a fleet over the start of a period. */
  readonly jitter: number;
}

/** A key for a period of which less than this is left would sign nothing worth its place in the JWKS. */
const shortestUseMs = 1000;

/** Spread over a tenth of the period, but never so late that the key could not mature in time. */
export function publicationDelayMs(period: Period, settings: RotationSettings): number {
  const periodMs = period.endMs - period.startMs;
  const spareMs = Math.max(0, periodMs - settings.propagationDelayMs);
  return settings.jitter * Math.min(periodMs / 10, spareMs / 2);
}

/** Whether the ring holds a key that is good for this whole period, or for what is left of it. */
function covers(keys: readonly PublishedKey[], period: Period): boolean {
  return keys.some(
    (key) =>
      key.revokedAtMs === null &&
      key.retiredEarlyAtMs === null &&
      key.retiresAtMs === period.endMs &&
      key.activatesAtMs < period.endMs,
  );
}

/**
 * The times of the keys to publish now, the more urgent first: one for the running period where there is none, and
 * the next period's, a whole period before it signs.
 */
export function plannedPublications(
  keys: readonly PublishedKey[],
  settings: RotationSettings,
  nowMs: number,
): readonly KeyTimes[] {
  const publishedAtMs = Math.round(nowMs);
  const period = settings.schedule.periodAt(nowMs);
  const nextPeriod = settings.schedule.periodAfter(period);
  const timesFor = (activatesAtMs: number, retiresAtMs: number): KeyTimes => ({
    publishedAtMs,
    activatesAtMs,
    retiresAtMs,
    expiresAtMs: retiresAtMs + settings.keptAfterRetirementMs,
  });
  const planned: KeyTimes[] = [];
  const needsCurrent = !covers(keys, period) && period.endMs - nowMs >= shortestUseMs;
  if (needsCurrent) planned.push(timesFor(publishedAtMs, period.endMs));
  const isNew = needsCurrent && keys.length === 0;
  // One that was revoked is replaced at once.
  const hadNext = keys.some((key) => key.retiresAtMs === nextPeriod.endMs);
  const nextIsDue = isNew || hadNext || nowMs >= period.startMs + publicationDelayMs(period, settings);
  if (!covers(keys, nextPeriod) && nextIsDue) planned.push(timesFor(nextPeriod.startMs, nextPeriod.endMs));
  return planned;
}

/** How long after retirement a key is still held: whatever chose it before has signed by then. */
export const heldAfterRetirementMs = 5000;

/** Whether nothing can still wait for a signature by this key. */
export function isDone(key: PublishedKey, nowMs: number): boolean {
  return nowMs >= retirementMs(key) + heldAfterRetirementMs;
}
