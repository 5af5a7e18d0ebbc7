/** Whether two sets of durations come from one distribution: the Mann-Whitney U test, by its normal approximation. */

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/**
 * The two-sided p: how often chance alone would part two such sets so far, whatever their distribution. It looks at
 * ranks only, so that a few samples that a busy machine drew out count no more than others. For 20 samples or more each.
 */
export function rankSumP(a: readonly number[], b: readonly number[]): number {
  const pooled = [...a.map((value) => ({ value, inA: true })), ...b.map((value) => ({ value, inA: false }))];
  pooled.sort((one, other) => one.value - other.value);
  let rankSumOfA = 0;
  let tieTerm = 0;
  for (let start = 0; start < pooled.length; ) {
    let end = start;
    while (end < pooled.length && pooled[end]?.value === pooled[start]?.value) end += 1;
    const sharedRank = (start + 1 + end) / 2;
    rankSumOfA += sharedRank * pooled.slice(start, end).filter(({ inA }) => inA).length;
    tieTerm += (end - start) ** 3 - (end - start);
    start = end;
  }
  const [n, m, all] = [a.length, b.length, a.length + b.length];
  const u = rankSumOfA - (n * (n + 1)) / 2;
  const variance = ((n * m) / 12) * (all + 1 - tieTerm / (all * (all - 1)));
  if (variance === 0) return 1;
  const z = Math.max(0, Math.abs(u - (n * m) / 2) - 0.5) / Math.sqrt(variance);
  return 2 * upperTail(z);
}

/** The standard normal distribution beyond `z` >= 0 (Abramowitz and Stegun 26.2.17; wrong by less than 1e-7). */
function upperTail(z: number): number {
  const t = 1 / (1 + 0.2316419 * z);
  const coefficients = [0.31938153, -0.356563782, 1.781477937, -1.821255978, 1.330274429];
  const series = coefficients.reduceRight((sum, coefficient) => (sum + coefficient) * t, 0);
  return (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * series;
}

/** Durations in milliseconds, `rounds` of each kind; in every round each kind once, in an order drawn anew. */
export async function measureInterleaved<Kind extends string>(
  kinds: Readonly<Record<Kind, () => Promise<unknown>>>,
  rounds: number,
): Promise<Record<Kind, number[]>> {
  const names = Object.keys(kinds) as Kind[];
  const durationsMs = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<
    Kind,
    number[]
  >;
  for (let round = 0; round < rounds; round += 1) {
    const order = names.map((name) => ({ name, at: Math.random() })).sort((one, other) => one.at - other.at);
    for (const { name } of order) {
      const startedAtMs = performance.now();
      await kinds[name]();
      durationsMs[name].push(performance.now() - startedAtMs);
    }
  }
  return durationsMs;
}
