/** Looks for any number of needles at once. */

import type { Needle } from "./seed-forms.ts";

export interface Search {
  /** Nothing that is split over two pieces is missed where they overlap by this. */
  readonly overlapBytes: number;
  /** What lies in these bytes, each needle once. */
  in(haystack: Uint8Array): readonly Needle[];
}

/** One pass, however many needles: a bit for every possible three bytes says where to look closer. */
export function createSearch(needles: readonly Needle[]): Search {
  const possible = new Uint32Array(2 ** 19);
  const byStart = new Map<number, Needle[]>();
  for (const needle of needles) {
    const start = needle.bytes.readUIntBE(0, 3);
    possible[start >> 5] = (possible[start >> 5] as number) | (1 << (start & 31));
    byStart.set(start, [...(byStart.get(start) ?? []), needle]);
  }
  return {
    overlapBytes: Math.max(...needles.map(({ bytes }) => bytes.length)) - 1,
    in(haystack) {
      const found = new Set<Needle>();
      let lastThree = 0;
      for (let index = 0; index < haystack.length; index += 1) {
        lastThree = ((lastThree << 8) | (haystack[index] as number)) & 0xffffff;
        if ((((possible[lastThree >> 5] as number) >>> (lastThree & 31)) & 1) === 0) continue;
        for (const needle of byStart.get(lastThree) ?? []) {
          if (index >= 2 && isAt(haystack, index - 2, needle.bytes)) found.add(needle);
        }
      }
      return [...found];
    },
  };
}

function isAt(haystack: Uint8Array, start: number, needle: Buffer): boolean {
  return needle.equals(haystack.subarray(start, start + needle.length));
}
