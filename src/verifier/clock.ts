/** The verifier's time: its runtime's own calendar, for it has no other; `clockToleranceSeconds` allows for it. */

/** Milliseconds since 1970. */
export function systemNowMs(): number {
  return Date.now();
}
