/** What hindered an instance and when, by `Date.now()`, and what it could do all the same. */

/** `cut`: it cannot do its part: stopped, or without the database, be it for a moment. `slow`: it can, but later. */
export type HindranceKind = "cut" | "slow";

export interface Hindrance {
  readonly kind: HindranceKind;
  readonly fromMs: number;
  /** Infinite while it lasts. */
  toMs: number;
}

/** To connect anew, which backs off. */
const reconnectMs = 4000;
/** To read the fleet's state and its keys: an interval, and a moment. */
const readMs = 1000;

export function overlapping(
  hindrances: readonly Hindrance[],
  fromMs: number,
  toMs: number,
  kinds: readonly HindranceKind[],
): readonly Hindrance[] {
  return hindrances.filter((one) => kinds.includes(one.kind) && one.fromMs < toMs && one.toMs > fromMs);
}

/** How long it could not do its part in that time. */
export function cutForMs(hindrances: readonly Hindrance[], fromMs: number, toMs: number): number {
  return overlapping(hindrances, fromMs, toMs, ["cut"]).reduce(
    (sum, one) => sum + Math.min(one.toMs, toMs) - Math.max(one.fromMs, fromMs),
    0,
  );
}

/** Whether cuts are why it has not read, in all that time, what was committed at its beginning. */
export function wasCutOff(hindrances: readonly Hindrance[], fromMs: number, toMs: number): boolean {
  if (toMs < fromMs) return false;
  const cuts = hindrances
    .map((one) => ({ ...one, toMs: one.toMs + reconnectMs }))
    .filter((one) => one.kind === "cut" && one.fromMs <= toMs && one.toMs > fromMs)
    .sort((a, b) => a.fromMs - b.fromMs);
  let freeSinceMs = fromMs;
  for (const cut of cuts) {
    if (cut.fromMs - freeSinceMs >= readMs) return false;
    freeSinceMs = Math.max(freeSinceMs, cut.toMs);
  }
  return cuts.length > 0 && toMs - freeSinceMs < readMs;
}
