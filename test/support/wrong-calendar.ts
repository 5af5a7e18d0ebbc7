/** Clocks of an instance that are wrong. */

/**
 * Node's flags, for what is loaded before the program: after the statements in `before`, the expression `shiftMs` is
 * added to everything that asks the process's own calendar.
 */
export function wrongCalendar(shiftMs: string, before = ""): string[] {
  const source = `
    ${before}
    const RealDate = Date;
    const shiftMs = () => ${shiftMs};
    globalThis.Date = class Date extends RealDate {
      constructor(...given) { given.length === 0 ? super(RealDate.now() + shiftMs()) : super(...given); }
      static now() { return RealDate.now() + shiftMs(); }
    };`;
  return ["--import", `data:text/javascript,${encodeURIComponent(source)}`];
}

/** A twentieth fast, in the calendar and in what counts milliseconds. */
export const fastClocks = wrongCalendar(
  "Math.floor(steadyMs() / 20)",
  `const steadyMs = performance.now.bind(performance);
   performance.now = () => steadyMs() * 1.05;`,
);

/** An hour ahead for a second, then an hour behind for one. */
export const jumpingCalendar = wrongCalendar(
  "(Math.floor(performance.now() / 1000) % 2 === 0 ? 3_600_000 : -3_600_000)",
);
