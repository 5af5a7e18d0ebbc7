import { afterEach, expect, test } from "@jest/globals";
import { secureHeapFlags } from "../../src/keys/secure-heap.ts";
import { processGroupOf } from "../postgres/embedded-server-user.ts";
import { eventually } from "../support/accounts.ts";
import { ServeProcess } from "./serve-process.ts";

/** Longer than any test may take. */
const settings = { SHUTDOWN_DRAIN: "60s" };

let served: ServeProcess;
afterEach(() => served.kill());

test("a second signal to the parent of instances ends them all at once; within a second it is the same signal", async () => {
  served = new ServeProcess({ nodeFlags: secureHeapFlags, argv: ["--instances", "2"], settings });
  const parent = served.process;
  await served.logs("listening", 2);
  const instances = processGroupOf(parent.pid ?? 0).filter((id) => id !== parent.pid);
  expect(instances).toHaveLength(2);

  const signalledAtMs = performance.now();
  parent.kill("SIGTERM");
  await served.logs("draining", 2);
  // It cannot see that its parent is gone.
  process.kill(instances[0] ?? 0, "SIGSTOP");
  await eventually(() => !parent.kill("SIGTERM"));
  expect(performance.now() - signalledAtMs).toBeGreaterThanOrEqual(1000);
  expect(await served.ended).toBe(1);
});

test("an instance whose parent is killed after a signal ends at once", async () => {
  served = new ServeProcess({ settings });
  await served.logs("listening");
  served.process.kill("SIGTERM");
  await served.logs("draining");
  served.process.kill("SIGKILL");
  await served.ended;
  expect(served.output()).toContain("ending at once");
});
