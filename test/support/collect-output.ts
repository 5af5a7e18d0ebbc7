/** What a process writes, as it comes. */

import type { Readable } from "node:stream";

/** Returns what these have written so far, in the order in which it came. A stream that is not piped is null. */
export function collectOutput(...streams: readonly (Readable | null)[]): () => string {
  let output = "";
  for (const stream of streams) {
    stream?.on("data", (text: Buffer) => {
      output += text.toString();
    });
  }
  return () => output;
}
