/** The first start ever, where nothing else runs: how soon it is ready, as whoever runs this and as an ordinary user. */

import { execFileSync } from "node:child_process";
import { statSync } from "node:fs";
import { cpus } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { type Clone, makeClone, toldLogin, typeLogin, untilBanner } from "../cli/clone.ts";
import { serverPid } from "../postgres/embedded-fixture.ts";
import { isRoot, processField, type SystemUser } from "../postgres/embedded-server-user.ts";
import { eventually } from "../support/accounts.ts";

const limitMs = 5000;
/** One that is late for no fault of its own is followed by one that is not. */
const attemptsMax = 3;
/** A start is measured when others leave the processors alone, or have not for so long: what they take is not its own. */
const inUseMax = 0.2;
const waitMaxMs = 30_000;

const idOf = (flag: "-u" | "-g") => Number(execFileSync("id", [flag, "nobody"], { encoding: "utf8" }));
const users: [string, SystemUser | undefined][] = [
  [isRoot ? "root" : "an ordinary user", undefined],
  ...(isRoot ? [["nobody", { uid: idOf("-u"), gid: idOf("-g") }] as [string, SystemUser]] : []),
];

/** The part of the processors that is in use, over a second. */
async function partInUse(): Promise<number> {
  const spentMs = () => {
    const times = cpus().map((one) => one.times);
    const all = times.flatMap((one) => Object.values(one)).reduce((sum, ms) => sum + ms, 0);
    return { all, idle: times.reduce((sum, { idle }) => sum + idle, 0) };
  };
  const before = spentMs();
  await pause(1000);
  const after = spentMs();
  return 1 - (after.idle - before.idle) / (after.all - before.all);
}

describe.each(users)("npm start as %s, in a clean clone", (name, user) => {
  let clone: Clone;
  beforeEach(() => {
    clone = makeClone(user);
  });
  afterEach(() => clone.remove());

  /** From nothing: a database, an account and keys are made. */
  async function firstStartMs(): Promise<number> {
    await eventually(async () => (await partInUse()) < inUseMax, waitMaxMs).catch(() => undefined);
    const startedAtMs = performance.now();
    const start = clone.start();
    await untilBanner(start);
    const tookMs = performance.now() - startedAtMs;
    const directory = await clone.dataDirectory();
    const { uid } = statSync(directory);
    expect(uid).not.toBe(0);
    if (user !== undefined) expect([uid, directory.startsWith(clone.folder)]).toEqual([user.uid, true]);
    expect(processField(serverPid(directory), "uid")).toBe(String(uid));
    expect(await typeLogin(toldLogin(start.output()))).toMatchObject({ token_type: "Bearer" });
    start.child.kill("SIGTERM");
    expect(await start.exited).toBe(0);
    clone.removeData();
    return Math.round(tookMs);
  }

  test(`is ready within ${limitMs} ms, compiling included, and is logged in to by the line that it prints`, async () => {
    const compilingMs: number[] = [];
    while (Math.min(...compilingMs) >= limitMs && compilingMs.length < attemptsMax) {
      clone.removeBuild();
      compilingMs.push(await firstStartMs());
    }
    const compiledMs = await firstStartMs();
    process.stderr.write(
      `npm start as ${name}: ready after ${compilingMs.join(", ")} ms, and after ${compiledMs} ms where it is built already\n`,
    );
    expect(Math.min(...compilingMs)).toBeLessThan(limitMs);
  }, 300_000);
});
