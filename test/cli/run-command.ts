/** Runs the built `keyfleet` command as a user would. */

import { spawn } from "node:child_process";
import { collectOutput } from "../support/collect-output.ts";
import { fastSettings, mainPath, type Settings } from "../support/instance.ts";

export interface CommandResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly settings?: Settings;
  readonly stdin?: string;
  readonly folder?: string;
}

export function runCommand(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const child = spawn(process.execPath, [mainPath, ...argv], {
    cwd: options.folder,
    env: { PATH: process.env["PATH"], ...fastSettings, ...options.settings },
  });
  const [stdout, stderr] = [collectOutput(child.stdout), collectOutput(child.stderr)];
  child.stdin.end(options.stdin ?? "");
  return new Promise((resolve) =>
    child.once("close", (code) => resolve({ code, stdout: stdout(), stderr: stderr() })),
  );
}
