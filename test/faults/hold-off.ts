/** What a consumer that waits only briefly rejects after it was not answered in that time says nothing of the fleet. */

export interface HoldOff {
  /** To be told every rejection: whether this one may be due to an answer that did not come in the consumer's own time. */
  excuses(message: string, atMs: number): boolean;
}

/** A request that it repeats may end after the one that it goes by. */
const repeatMs = 2000;

/** `unanswered`: how it says so, where it waits but briefly. `staleMs`: how long it then goes on with what it had read. */
export function createHoldOff(unanswered: RegExp | undefined, staleMs: number): HoldOff {
  let unansweredAtMs: number | undefined;
  return {
    excuses(message, atMs) {
      if (unanswered?.test(message)) unansweredAtMs = atMs;
      return unansweredAtMs !== undefined && atMs - unansweredAtMs <= staleMs + repeatMs;
    },
  };
}
