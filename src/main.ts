#!/usr/bin/env node
/** The process: what serves runs with a secure heap, and starts itself again where Node was not told to have one. */

import { spawn } from "node:child_process";
import { secureHeapUsed } from "node:crypto";
import { fileURLToPath } from "node:url";
import { endingOf } from "./cli/exit.ts";
import { createProgram } from "./cli/program.ts";
import { takeEnvironment } from "./config.ts";
import { secureHeapFlags } from "./keys/secure-heap.ts";

const makesKeys = process.argv[2] === "serve";
const hasSecureHeap = (secureHeapUsed()?.total ?? 0) > 0;

if (makesKeys && !hasSecureHeap && !process.execArgv.some((flag) => flag.startsWith("--secure-heap"))) {
  startAgainWithSecureHeap();
} else {
  await run();
}

async function run(): Promise<void> {
  try {
    await createProgram(takeEnvironment()).parseAsync();
  } catch (error) {
    const { code, lines } = endingOf(error);
    for (const line of lines) process.stderr.write(`${line}\n`);
    process.exitCode = code;
  }
  // Whatever is still open has been closed as well as it could be.
  process.exit();
}

/** Signals go through, the exit code comes back, and the IPC channel tells the child where we were killed. */
function startAgainWithSecureHeap(): void {
  const argv = [
    ...secureHeapFlags,
    ...process.execArgv,
    fileURLToPath(import.meta.url),
    ...process.argv.slice(2),
  ];
  const child = spawn(process.execPath, argv, { stdio: ["inherit", "inherit", "inherit", "ipc"] });
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"] as const) {
    process.on(signal, () => child.kill(signal));
  }
  child.on("message", (message) => process.send?.(message as object));
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code ?? 1);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}
