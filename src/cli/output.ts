/** Lists: a table for a person at a terminal, JSON for everyone else who asks for it. */

export type Row = Readonly<Record<string, string | number | boolean | null | readonly string[]>>;

function cell(value: Row[string]): string {
  if (value === null) return "-";
  if (typeof value === "boolean") return value ? "yes" : "no";
  return Array.isArray(value) ? value.join(" ") : String(value);
}

/** Control characters of stored names must not reach a terminal. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, "\ufffd");
}

/** Columns in the order of the first row's members. */
export function formatTable(rows: readonly Row[]): string {
  const [first] = rows;
  if (first === undefined) return "none";
  const names = Object.keys(first);
  const lines = [names, ...rows.map((row) => names.map((name) => printable(cell(row[name] ?? null))))];
  const widths = names.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((text, column) => text.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

export function printRows(rows: readonly Row[], asJson: boolean): void {
  console.log(asJson ? JSON.stringify(rows, null, 2) : formatTable(rows));
}

export function isoTime(timeMs: number | null): string | null {
  return timeMs === null ? null : new Date(timeMs).toISOString();
}
