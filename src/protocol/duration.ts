/** Durations as settings spell them: a whole number and `ms`, `s`, `m`, `h` or `d`. */

const unitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** Milliseconds, or undefined where the text is no duration. */
export function parseDurationMs(text: string): number | undefined {
  const match = /^(\d{1,12})(ms|s|m|h|d)$/.exec(text.trim());
  if (match === null) return undefined;
  return Number(match[1]) * unitMs[match[2] as keyof typeof unitMs];
}

/** The same duration in its largest whole unit: `900000` is `15m`. */
export function formatDuration(durationMs: number): string {
  for (const unit of ["d", "h", "m", "s"] as const) {
    if (durationMs >= unitMs[unit] && durationMs % unitMs[unit] === 0)
      return `${durationMs / unitMs[unit]}${unit}`;
  }
  return `${durationMs}ms`;
}
