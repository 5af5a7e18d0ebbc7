import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { afterEach, describe, expect, test } from "@jest/globals";
import { secureHeapFlags } from "../../src/keys/secure-heap.ts";
import { isRoot } from "../postgres/embedded-server-user.ts";
import { eventually } from "../support/accounts.ts";
import { noDatabase, ServeProcess } from "./serve-process.ts";

/** Which process it is, and what of its memory is locked, is read from /proc. */
const describeOnLinux = process.platform === "linux" ? describe : describe.skip;

const production = {
  NODE_ENV: "production",
  BCRYPT_COST: "10",
  KEY_PROPAGATION_DELAY: "12m",
  ISSUER: "https://id.example",
  DATABASE_URL: `${noDatabase.DATABASE_URL}?sslmode=verify-full`,
};

/** Runs a command that may lock no memory: root has to give up the right to lock any amount. */
const withoutLocking = [
  ...(isRoot ? ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"] : []),
  ...["/bin/sh", "-c", 'ulimit -l 0 && exec "$@"', "sh"],
];
const [command = "", ...rest] = withoutLocking;
const canGoWithout = process.platform === "linux" && spawnSync(command, [...rest, "true"]).status === 0;
const testWithoutLocking = canGoWithout ? test : test.skip;

let served: ServeProcess;
afterEach(() => served.kill());

/** Resolves to the number of the process that it started again. */
async function untilListening({ process: { pid } }: ServeProcess): Promise<number> {
  await served.logs("listening");
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8"));
}

function lockedKiB(processId: number): number {
  return Number(/^VmLck:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${processId}/status`, "utf8"))?.[1]);
}

describeOnLinux("started without the flags, serve", () => {
  test("starts again with them, has its heap locked, opens no inspector at SIGUSR1, and ends at a signal with its exit code", async () => {
    served = new ServeProcess({});
    const innerId = await untilListening(served);
    expect(readFileSync(`/proc/${innerId}/cmdline`, "utf8")).toContain("--secure-heap=65536");
    expect(lockedKiB(innerId)).toBeGreaterThanOrEqual(64);
    expect(lockedKiB(served.process.pid ?? 0)).toBe(0);
    process.kill(innerId, "SIGUSR1");
    await eventually(() => served.output().includes("SIGUSR1 is ignored"));
    expect(served.output()).not.toContain("Debugger listening");
    served.process.kill("SIGTERM");
    expect(await served.ended).toBe(0);
    expect(served.output()).toContain('"msg":"stopped"');
  });

  test("ends where the process that was started is killed", async () => {
    served = new ServeProcess({});
    await untilListening(served);
    served.process.kill("SIGKILL");
    await served.ended;
    expect(served.output()).toContain('"msg":"stopped"');
  });
});

test("production is refused where there is no secure heap, with exit code 78 and one line", async () => {
  served = new ServeProcess({ nodeFlags: ["--secure-heap=0"], settings: production });
  expect(await served.ended).toBe(78);
  expect(served.output()).toMatch(/^secure heap: there is no secure heap: .*\n$/);
});

testWithoutLocking(
  "production is refused where the secure heap cannot be locked, in the same way",
  async () => {
    served = new ServeProcess({ through: withoutLocking, nodeFlags: secureHeapFlags, settings: production });
    expect(await served.ended).toBe(78);
    // Node may say something itself.
    const line = /^(Unable to .*\n)?secure heap: the secure heap is not locked: .*\n$/;
    expect(served.output()).toMatch(line);
  },
);
