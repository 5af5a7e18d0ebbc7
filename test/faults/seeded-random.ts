/** Random choices that a seed repeats. */

export interface SeededRandom {
  /** From 0 up to 1. */
  next(): number;
  between(from: number, to: number): number;
  /** Undefined where there is nothing to choose from. */
  pick<Item>(items: readonly Item[]): Item | undefined;
}

/** Mulberry32. */
export function createSeededRandom(seed: number): SeededRandom {
  let state = seed >>> 0;
  function next(): number {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
  return {
    next,
    between: (from, to) => from + next() * (to - from),
    pick: (items) => items[Math.floor(next() * items.length)],
  };
}
