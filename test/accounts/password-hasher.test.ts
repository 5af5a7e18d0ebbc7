import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { createPasswordHasher } from "../../src/accounts/password-hasher.ts";

let folder: string;
let workerUrl: URL;

/** A worker that takes a while to load, and leaves a file for each thread that has. */
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "keyfleet-hasher-"));
  const path = join(folder, "worker.mjs");
  writeFileSync(
    path,
    `import { writeFileSync } from "node:fs";
     import { threadId } from "node:worker_threads";
     Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
     writeFileSync(${JSON.stringify(join(folder, "loaded-"))} + threadId, "");
     export const runHashingTask = () => ({ type: "hash", hash: "a hash" });`,
  );
  workerUrl = pathToFileURL(path);
});
afterEach(() => rmSync(folder, { recursive: true }));

const loadedThreads = () => readdirSync(folder).filter((name) => name.startsWith("loaded-")).length;

test("threads that were started are not ended while they load: bcrypt would end the whole process", async () => {
  const hasher = createPasswordHasher({ workerUrl, cost: 4, threads: 2, isEager: true, queueLimit: 1 });
  await hasher.close();
  expect(loadedThreads()).toBe(2);
});

test("where it is not eager, a thread is started for the first hash alone", async () => {
  const options = { workerUrl, cost: 4, threads: 1, isEager: false, queueLimit: 1 };
  await createPasswordHasher(options).close();
  expect(loadedThreads()).toBe(0);
  const hasher = createPasswordHasher(options);
  expect([await hasher.hash("one"), await hasher.hash("another")]).toEqual(["a hash", "a hash"]);
  await hasher.close();
  expect(loadedThreads()).toBe(1);
});
