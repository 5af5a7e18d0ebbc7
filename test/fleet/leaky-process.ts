/** Processes that handle a private key as Keyfleet must not: what the sweep has to find. */

import { type ChildProcess, spawn } from "node:child_process";
import { secureHeapFlags } from "../../src/keys/secure-heap.ts";

export interface LeakyProcess {
  readonly processId: number;
  /** The public half of its key: the JWK member `x`. */
  readonly x: string;
  readonly process: ChildProcess;
  stop(): Promise<void>;
}

/** Runs `source`, a module that sets `x`, with a secure heap, and keeps it running. */
export async function startLeakyProcess(
  source: string,
  nodeFlags: readonly string[] = [],
): Promise<LeakyProcess> {
  const program = `let x; ${source}; setInterval(() => {}, 1000); process.send({ x });`;
  const child = spawn(
    process.execPath,
    [...secureHeapFlags, ...nodeFlags, "--input-type=module", "--eval", program],
    { stdio: ["ignore", "ignore", "inherit", "ipc"], env: {} },
  );
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const x = await new Promise<string>((resolve, reject) => {
    child.once("message", (message: { x: string }) => resolve(message.x));
    void exited.then(() => reject(new Error("the process ended")));
  });
  return {
    processId: child.pid ?? 0,
    x,
    process: child,
    async stop() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}
