/** A consumer in another language: a process that is given a token a line, and answers each with a line, in order. */

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Command } from "./build.ts";

export interface LineProcess {
  /** The token's subject. Throws `Refused`, or another error where the process has ended. */
  verify(token: string): Promise<string>;
  close(): Promise<void>;
}

/** The consumer's own verdict, with its own words. */
export class Refused extends Error {
  override readonly name = "Refused";
}

export function startLineProcess({ argv: [program = "", ...flags], environment }: Command): LineProcess {
  const child = spawn(program, flags, { env: { ...process.env, ...environment } });
  const asked: { resolve(subject: string): void; reject(error: Error): void }[] = [];
  let complaints = "";
  let ended: Error | undefined;
  child.stderr.on("data", (text: Buffer) => {
    complaints = (complaints + text.toString()).slice(-2000);
  });
  // It may end at any moment; that is seen by its end.
  child.stdin.on("error", () => undefined);
  createInterface({ input: child.stdout }).on("line", (line) => {
    const [verdict = "", rest = ""] = line.split(/ (.*)/s);
    const next = asked.shift();
    if (verdict === "ok") next?.resolve(rest);
    else next?.reject(verdict === "refused" ? new Refused(rest) : new Error(`it said: ${line}`));
  });
  const closed = new Promise<void>((resolve) => {
    const end = (how: string) => {
      ended ??= new Error(`${program} has ended with ${how}: ${complaints}`);
      for (const { reject } of asked.splice(0)) reject(ended);
      resolve();
    };
    child.once("error", (error) => end(error.message));
    child.once("close", (code) => end(String(code)));
  });
  return {
    verify(token) {
      if (ended !== undefined) return Promise.reject(ended);
      return new Promise((resolve, reject) => {
        asked.push({ resolve, reject });
        child.stdin.write(`${token}\n`);
      });
    },
    close() {
      child.stdin.end();
      return closed;
    },
  };
}
