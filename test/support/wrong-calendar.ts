/** An instance whose own calendar is wrong. */

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
