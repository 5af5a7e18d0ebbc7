/** I4 right after a key is made, before anything else runs in the process and happens to write over what was left. */

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { expect, test } from "@jest/globals";
import { findSeeds } from "./seed-finder.ts";
import { searchFor, sweepMemory } from "./sweep.ts";

const signingKeyUrl = new URL("../../dist/keys/signing-key.js", import.meta.url);

/** Makes a key for each byte of its input and tells its public half, in as few steps as there can be. */
const script = `
  const { readSync, writeSync } = await import("node:fs");
  const { generateSigningKey } = await import("${signingKeyUrl}");
  const keys = [];
  while (readSync(0, Buffer.alloc(1)) === 1) {
    keys.push(generateSigningKey("EdDSA"));
    writeSync(1, keys.at(-1).x + "\\n");
  }`;

test("eight times right after a key is made, no form of it lies outside the secure heap", async () => {
  const flags = ["--secure-heap=65536", "--secure-heap-min=2", "--input-type=module", "--eval", script];
  const child = spawn(process.execPath, flags, { env: {}, stdio: ["pipe", "pipe", "inherit"] });
  const exited = new Promise((resolve) => child.once("exit", resolve));
  try {
    const publicHalves = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    for (let count = 0; count < 8; count += 1) {
      child.stdin.write(".");
      const x: string = (await publicHalves.next()).value;
      const [found] = findSeeds(child.pid as number, [x]);
      if (found === undefined) throw new Error("the key was not found, so nothing could be looked for");
      expect(sweepMemory(child.pid as number, searchFor([found.seed])).forms).toEqual([]);
    }
  } finally {
    child.stdin.end();
    await exited;
  }
}, 30_000);
