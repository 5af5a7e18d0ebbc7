/** Runs the built `keyfleet` command as a user would. */

import { spawn } from "node:child_process";
import { pathToFileURL } from "node:url";
import { jest } from "@jest/globals";
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

/** Runs it, as built, in this process, which spares starting one: for what reads no stdin. */
export async function runCommandHere(
  argv: readonly string[],
  settings: Settings = {},
): Promise<CommandResult> {
  const { createProgram } = await importBuilt<typeof import("../../src/cli/program.ts")>("cli/program.js");
  const { endingOf } = await importBuilt<typeof import("../../src/cli/exit.ts")>("cli/exit.js");
  const stdout: string[] = [];
  const stderr: string[] = [];
  const spies = [
    jest.spyOn(console, "log").mockImplementation((line) => void stdout.push(`${line}\n`)),
    jest.spyOn(console, "error").mockImplementation((line) => void stderr.push(`${line}\n`)),
  ];
  let code = 0;
  try {
    await createProgram({ ...fastSettings, ...settings }).parseAsync(argv, { from: "user" });
  } catch (error) {
    const ending = endingOf(error);
    code = ending.code;
    stderr.push(...ending.lines.map((line) => `${line}\n`));
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  return { code, stdout: stdout.join(""), stderr: stderr.join("") };
}

function importBuilt<Module>(path: string): Promise<Module> {
  return import(new URL(path, pathToFileURL(mainPath)).href);
}
