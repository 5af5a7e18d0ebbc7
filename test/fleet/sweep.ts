/** Looks for keys, in every form, in one place after another. */

import { isSecureHeap, openMemory, ownMappings } from "./memory-scan.ts";
import { createSearch, type Search } from "./needle-search.ts";
import { needlesOf } from "./seed-forms.ts";
import type { StoredPiece } from "./stored-copies.ts";

export function searchFor(seeds: readonly Buffer[]): Search {
  return createSearch(seeds.flatMap(needlesOf));
}

/** The forms that lie there, sorted, each once. */
export function formsIn(search: Search, haystack: Uint8Array | string): readonly string[] {
  const found = search.in(typeof haystack === "string" ? Buffer.from(haystack) : haystack);
  return [...new Set(found.map(({ form }) => form))].sort();
}

/** All that the process wrote to its memory, but for the secure heap: at least what is swapped, or in a core dump. */
export function sweepMemory(processId: number, search: Search) {
  const memory = openMemory(processId);
  const forms = new Set<string>();
  let sweptBytes = 0;
  for (const mapping of ownMappings(processId)) {
    if (isSecureHeap(mapping)) continue;
    for (const { bytes } of memory.pieces(mapping, search.overlapBytes)) {
      sweptBytes += bytes.length;
      for (const form of formsIn(search, bytes)) forms.add(form);
    }
  }
  memory.close();
  return { forms: [...forms].sort(), sweptBytes };
}

/** What lies where, as `place: form`. */
export async function sweepPieces(search: Search, pieces: AsyncIterable<StoredPiece>) {
  const found: string[] = [];
  for await (const { place, bytes } of pieces) {
    found.push(...formsIn(search, bytes).map((form) => `${place}: ${form}`));
  }
  return found;
}

/** The secure heap's whole content. */
export function readSecureHeap(processId: number): Buffer {
  const memory = openMemory(processId);
  const pieces = ownMappings(processId)
    .filter(isSecureHeap)
    .flatMap((mapping) => [...memory.pieces(mapping, 0)].map(({ bytes }) => Buffer.from(bytes)));
  memory.close();
  return Buffer.concat(pieces);
}
