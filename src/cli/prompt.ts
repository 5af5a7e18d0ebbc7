/** Passwords from a person without echo, or from stdin; never from an argument, which everyone could read. */

import { createInterface } from "node:readline/promises";
import { Refusal } from "../errors.ts";

/** The first line of stdin, without its line break. Undefined where stdin is empty. */
export async function readLine(): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  const text = new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
  return text === "" ? undefined : (text.split(/\r?\n/)[0] ?? "");
}

/** Asks twice at a terminal; otherwise takes one line from stdin. */
export async function readNewPassword(): Promise<string> {
  if (!process.stdin.isTTY) {
    const line = await readLine();
    if (line === undefined) throw new Refusal("invalid_request", { description: "no password on stdin" });
    return line;
  }
  const password = await promptWithoutEcho("New password: ");
  if (password !== (await promptWithoutEcho("Again: "))) {
    throw new Refusal("invalid_request", { description: "the two passwords differ" });
  }
  return password;
}

/** A question at a terminal; anywhere else nobody can answer, and the answer is no, as it is to the end of input. */
export async function confirm(question: string): Promise<boolean> {
  if (!process.stdin.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const ended = new Promise<string>((resolve) => terminal.once("close", () => resolve("")));
  const answer = await Promise.race([terminal.question(`${question} [y/N] `), ended]);
  terminal.close();
  return /^y(es)?$/i.test(answer.trim());
}

const interrupt = "\u0003";
const endOfInput = "\u0004";
const erase = new Set(["\u007f", "\b"]);

function promptWithoutEcho(question: string): Promise<string> {
  const { stdin, stderr } = process;
  stderr.write(question);
  stdin.setRawMode(true);
  stdin.setEncoding("utf8");
  stdin.resume();
  return new Promise((resolve, reject) => {
    let typed: string[] = [];
    const finish = (act: () => void) => {
      stdin.off("data", onData);
      stdin.setRawMode(false);
      stdin.pause();
      stderr.write("\n");
      act();
    };
    const onData = (text: string) => {
      for (const character of text) {
        if (character === "\r" || character === "\n" || character === endOfInput) {
          return finish(() => resolve(typed.join("")));
        }
        if (character === interrupt) {
          return finish(() => reject(new Refusal("invalid_request", { description: "interrupted" })));
        }
        typed = erase.has(character) ? typed.slice(0, -1) : [...typed, character];
      }
    };
    stdin.on("data", onData);
  });
}
