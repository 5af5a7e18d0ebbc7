/** `keyfleet serve` as a process of its own, without a database: it listens all the same, and costs less. */

import { type ChildProcess, spawn } from "node:child_process";
import { eventually } from "../support/accounts.ts";
import { collectOutput } from "../support/collect-output.ts";
import { fastSettings, mainPath, type Settings } from "../support/instance.ts";

export const noDatabase = { DATABASE_URL: "postgres://nobody@127.0.0.1:1/none" };

export interface ServeOptions {
  /** What runs Node, such as a shell with limits. */
  readonly through?: readonly string[];
  readonly nodeFlags?: readonly string[];
  readonly argv?: readonly string[];
  readonly settings?: Settings;
}

export class ServeProcess {
  readonly process: ChildProcess;
  /** Resolves when all that it started has ended too, for they share its pipes. */
  readonly ended: Promise<number | null>;
  readonly output: () => string;

  constructor({ through = [], nodeFlags = [], argv = [], settings = {} }: ServeOptions) {
    const [command = "", ...rest] = [...through, process.execPath, ...nodeFlags, mainPath, "serve", ...argv];
    this.process = spawn(command, rest, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { PATH: process.env["PATH"], ...fastSettings, ...noDatabase, ...settings },
      // A process group, to be killed as one.
      detached: true,
    });
    this.output = collectOutput(this.process.stdout, this.process.stderr);
    this.ended = new Promise((resolve) => this.process.once("close", resolve));
  }

  /** Waits until it has logged the message so many times. */
  async logs(message: string, times = 1): Promise<void> {
    const isLogged = () => this.output().split(`"msg":"${message}`).length > times;
    await eventually(isLogged, 15_000).catch((error: Error) => {
      throw new Error(`${error.message}: it said\n${this.output()}`);
    });
  }

  /** Whatever is left of it and of what it started. */
  async kill(): Promise<void> {
    const { pid } = this.process;
    if (pid === undefined) return;
    try {
      process.kill(-pid, "SIGKILL");
    } catch {
      // Nothing is left.
    }
    await this.ended;
  }
}
