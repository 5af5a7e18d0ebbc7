import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { afterEach, describe, expect, test } from "@jest/globals";
import { eventually } from "../support/accounts.ts";
import { fastSettings, mainPath, type Settings } from "../support/instance.ts";

/** Which process it is, and what of its memory is locked, is read from /proc. */
const describeOnLinux = process.platform === "linux" ? describe : describe.skip;

/** Listens without a database, which is all that is needed here. */
const noDatabase = { DATABASE_URL: "postgres://nobody@127.0.0.1:1/none" };

interface Served {
  readonly process: ChildProcess;
  readonly exited: Promise<number | null>;
  output(): string;
}

let served: Served | undefined;
let inner: number | undefined;
afterEach(() => {
  served?.process.kill("SIGKILL");
  try {
    // Where a test fails it may be left over, and would hold our pipes.
    if (inner !== undefined) process.kill(inner, "SIGKILL");
  } catch {}
  inner = undefined;
});

function serve(nodeFlags: readonly string[], settings: Settings = {}): Served {
  const child = spawn(process.execPath, [...nodeFlags, mainPath, "serve"], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env["PATH"], ...fastSettings, ...noDatabase, ...settings },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (text: Buffer) => {
      output += text.toString();
    });
  }
  const exited = new Promise<number | null>((resolve) => child.once("close", resolve));
  served = { process: child, exited, output: () => output };
  return served;
}

/** Resolves to the number of the process that it started again. */
async function untilListening({ output, process: { pid } }: Served): Promise<number> {
  await eventually(() => output().includes('"msg":"listening"'));
  inner = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8"));
  return inner;
}

function lockedKiB(processId: number): number {
  return Number(/^VmLck:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${processId}/status`, "utf8"))?.[1]);
}

describeOnLinux("started without the flags, serve", () => {
  test("starts again with them, has its heap locked, opens no inspector at SIGUSR1, and ends at a signal with its exit code", async () => {
    const outer = serve([]);
    const innerId = await untilListening(outer);
    expect(readFileSync(`/proc/${innerId}/cmdline`, "utf8")).toContain("--secure-heap=65536");
    expect(lockedKiB(innerId)).toBeGreaterThanOrEqual(64);
    expect(lockedKiB(outer.process.pid ?? 0)).toBe(0);
    process.kill(innerId, "SIGUSR1");
    await eventually(() => outer.output().includes("SIGUSR1 is ignored"));
    expect(outer.output()).not.toContain("Debugger listening");
    outer.process.kill("SIGTERM");
    expect(await outer.exited).toBe(0);
    expect(outer.output()).toContain('"msg":"stopped"');
  });

  test("ends where the process that was started is killed", async () => {
    const outer = serve([]);
    await untilListening(outer);
    outer.process.kill("SIGKILL");
    // Its pipes close when the inner one has ended too.
    await outer.exited;
    expect(outer.output()).toContain('"msg":"stopped"');
  });
});

test("production is refused where there is no secure heap, with exit code 78 and one line", async () => {
  const { exited, output } = serve(["--secure-heap=0"], {
    NODE_ENV: "production",
    BCRYPT_COST: "10",
    KEY_PROPAGATION_DELAY: "12m",
    ISSUER: "https://id.example",
    DATABASE_URL: `${noDatabase.DATABASE_URL}?sslmode=verify-full`,
  });
  expect(await exited).toBe(78);
  expect(output()).toMatch(/^secure heap: there is no secure heap: .*\n$/);
});
