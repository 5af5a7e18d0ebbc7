/**
 * The verifier's time: its runtime's own calendar, for it has no other; `clockToleranceSeconds` allows for it. What is
 * only waited for is counted by a clock that no one sets back.
 */

/** Milliseconds since 1970. */
export function systemNowMs(): number {
  return Date.now();
}

/** Milliseconds since some moment. */
export function steadyNowMs(): number {
  return performance.now();
}
