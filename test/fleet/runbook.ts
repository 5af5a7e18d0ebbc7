/** What docs/runbook.md says to type. */

import { readFileSync } from "node:fs";

const text = readFileSync(new URL("../../docs/runbook.md", import.meta.url), "utf8");

/** The commands under a heading, in their order, without `keyfleet`; words such as KID are replaced. */
export function runbookCommands(heading: string, words: Readonly<Record<string, string>> = {}): string[][] {
  const [, section = ""] = text.split(`\n## ${heading}\n`);
  const lines = (section.split("\n## ")[0] ?? "").matchAll(/(?:^|`)keyfleet ([^`#\n]+)/gm);
  const commands = [...lines].map(([, typed = ""]) => typed.trim().split(/\s+/));
  if (commands.length === 0) throw new Error(`the runbook says nothing to type under "${heading}"`);
  return commands.map((argv) => argv.map((word) => words[word] ?? word));
}
