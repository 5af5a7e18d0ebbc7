/** Runs the built `keyfleet` command as a user would. */

import { spawn } from "node:child_process";
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
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (text: Buffer) => {
    stdout += text.toString();
  });
  child.stderr.on("data", (text: Buffer) => {
    stderr += text.toString();
  });
  child.stdin.end(options.stdin ?? "");
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, stdout, stderr })));
}
