/** Whether a storm came to enough: where nothing happens nothing goes wrong, and neither where everything is excused. */

export interface Bounds {
  /** By the ledger's names. */
  readonly least: Readonly<Record<string, number>>;
  /** Verifications that accepted, of every consumer. */
  readonly verificationsEach: number;
  /** Of a consumer's verifications: rejections that do not count, for whatever reason. */
  readonly excusedShare: number;
}

/** A line for each bound that is not kept. */
export function shortcomings(
  counts: ReadonlyMap<string, number>,
  consumers: readonly string[],
  bounds: Bounds,
): readonly string[] {
  const of = (name: string) => counts.get(name) ?? 0;
  const least = [
    ...Object.entries(bounds.least),
    ...consumers.map((name) => [`${name}: verifications`, bounds.verificationsEach] as const),
  ];
  const tooFew = least
    .filter(([name, count]) => of(name) < count)
    .map(([name, count]) => `${name}: ${of(name)}, in place of ${count} at least`);
  const tooManyExcused = consumers.flatMap((name) => {
    const excused = [...counts]
      .filter(([what]) => what.startsWith(`${name}: rejections, `))
      .reduce((sum, [, count]) => sum + count, 0);
    const share = excused / (excused + of(`${name}: verifications`));
    return share > bounds.excusedShare ? [`${name}: ${excused} rejections that do not count`] : [];
  });
  return [...tooFew, ...tooManyExcused];
}
