/** What a test has opened is closed after it, all at once, whatever became of the test. */

import { afterEach } from "@jest/globals";

type Close = () => Promise<unknown>;

/** Called once in a file. Returns what notes a thing to close; `withinMs` is for all of them together. */
export function closeAfterEach(withinMs?: number): (...close: Close[]) => void {
  let closing: Close[] = [];
  afterEach(async () => {
    await Promise.all(closing.map((close) => close()));
    closing = [];
  }, withinMs);
  return (...close) => void closing.push(...close);
}
