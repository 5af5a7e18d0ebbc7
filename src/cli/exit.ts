/** How a command ends: exit codes as sysexits.h has them, and one line that says why. */

import { CommanderError } from "commander";
import { ConfigError } from "../config.ts";
import { Refusal } from "../errors.ts";
import { ListenError } from "../http/server.ts";
import { isDatabaseAway, isSchemaMissing } from "../postgres/pool.ts";

export const exitCodes = { done: 0, refused: 1, usage: 2, databaseAway: 69, settings: 78 } as const;

export interface Ending {
  readonly code: number;
  /** For stderr; none where it was said already. */
  readonly lines: readonly string[];
}

/** What a thrown error means for the exit code and for the person who typed the command. */
export function endingOf(error: unknown): Ending {
  if (error instanceof CommanderError) {
    return { code: error.exitCode === 0 ? exitCodes.done : exitCodes.usage, lines: [] };
  }
  if (error instanceof ListenError) return { code: exitCodes.settings, lines: [error.message] };
  if (error instanceof ConfigError) return { code: exitCodes.settings, lines: error.problems };
  if (error instanceof Refusal) return { code: exitCodes.refused, lines: [error.message] };
  if (isDatabaseAway(error))
    return { code: exitCodes.databaseAway, lines: ["the database cannot be reached"] };
  if (isSchemaMissing(error)) {
    return { code: exitCodes.refused, lines: ["the database has no schema yet: run keyfleet migrate"] };
  }
  return { code: exitCodes.refused, lines: [error instanceof Error ? error.message : "failed"] };
}
