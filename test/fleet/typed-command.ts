/** A `keyfleet` command as a person types it, who is asked and may answer, or never does. */

import { spawn } from "node:child_process";
import type { CommandResult } from "../cli/run-command.ts";
import { eventually } from "../support/accounts.ts";
import { collectOutput } from "../support/collect-output.ts";
import { fastSettings, mainPath, type Settings } from "../support/instance.ts";

export interface TypedCommand {
  readonly result: Promise<CommandResult & { readonly endedAtMs: number }>;
  /** Waits for the question; resolves to what was said before it. */
  asked(): Promise<string>;
  /** Undefined: the end of input, as Ctrl-D makes it. */
  answer(text: string | undefined): void;
  kill(): void;
}

/** All that is pretended is that stdin is a terminal: nobody but a person at one is asked. */
const atTerminal = "--import=data:text/javascript,process.stdin.isTTY=true";

export function typeCommand(argv: readonly string[], settings: Settings): TypedCommand {
  const child = spawn(process.execPath, [atTerminal, mainPath, ...argv], {
    env: { PATH: process.env["PATH"], ...fastSettings, ...settings },
  });
  const [stdout, stderr] = [collectOutput(child.stdout), collectOutput(child.stderr)];
  child.stdin.on("error", () => undefined);
  return {
    result: new Promise((resolve) =>
      child.once("close", (code) =>
        resolve({ code, stdout: stdout(), stderr: stderr(), endedAtMs: performance.now() }),
      ),
    ),
    async asked() {
      await eventually(() => stderr().endsWith("[y/N] ") || child.exitCode !== null);
      return stdout();
    },
    answer(text) {
      if (text === undefined) child.stdin.end();
      else child.stdin.write(`${text}\n`);
    },
    kill: () => void child.kill("SIGKILL"),
  };
}

/** Types it, and `answer` where it asks. */
export async function runTyped(
  argv: readonly string[],
  settings: Settings,
  answer?: string,
): Promise<CommandResult> {
  const command = typeCommand(argv, settings);
  await command.asked();
  command.answer(answer);
  return command.result;
}
