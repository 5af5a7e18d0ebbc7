/** `keyfleet serve`: one instance in this process, or several, each a process of its own. */

import { type Command, InvalidArgumentError } from "commander";
import type { Environment } from "../config.ts";
import type { ServeFlags } from "./run-serve.ts";

export function addServeCommand(program: Command, environment: Environment): void {
  program
    .command("serve")
    .description("serves until SIGTERM; a second signal ends it at once")
    .option("--instances <count>", "so many processes on consecutive ports", readCount, 1)
    .option("--no-banner", "does not print where it listens and how to log in")
    .action(async (flags: ServeFlags) => {
      // Loaded only here: all other commands start in half the time.
      const { runServe } = await import("./run-serve.ts");
      await runServe(environment, flags);
    });
}

function readCount(text: string): number {
  const count = /^\d{1,2}$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > 64) throw new InvalidArgumentError("It must be a number from 1 to 64.");
  return count;
}
