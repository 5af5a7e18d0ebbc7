/** What happens next in a simulated fleet: events in the order of their times, with nothing in between. */

import type { VirtualTime } from "../support/virtual-time.ts";

export interface EventQueue {
  /** Does `work` at that time, or now where it is past. */
  at(timeMs: number, work: () => Promise<unknown>): void;
  /** Time passes until then, from event to event; `after` is called after each. */
  runUntil(timeMs: number, after: () => Promise<void>): Promise<void>;
}

interface Event {
  readonly timeMs: number;
  readonly order: number;
  readonly work: () => Promise<unknown>;
}

export function createEventQueue(time: VirtualTime): EventQueue {
  /** Latest first. */
  const events: Event[] = [];
  let order = 0;

  function isBefore(a: Event, b: Event): boolean {
    return a.timeMs < b.timeMs || (a.timeMs === b.timeMs && a.order < b.order);
  }

  return {
    at(timeMs, work) {
      const event = { timeMs, work, order: order++ };
      let [from, to] = [0, events.length];
      while (from < to) {
        const middle = (from + to) >> 1;
        if (isBefore(event, events[middle] as Event)) from = middle + 1;
        else to = middle;
      }
      events.splice(from, 0, event);
    },
    async runUntil(timeMs, after) {
      for (let next = events.at(-1); next !== undefined && next.timeMs <= timeMs; next = events.at(-1)) {
        events.pop();
        time.pass(next.timeMs - time.nowMs());
        await next.work();
        await after();
      }
      time.pass(timeMs - time.nowMs());
    },
  };
}
