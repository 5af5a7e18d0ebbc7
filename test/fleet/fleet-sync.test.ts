import { expect, test } from "@jest/globals";
import { createFleetClock } from "../../src/clock.ts";
import { createFleetSync, type FleetState } from "../../src/fleet/fleet-sync.ts";

const intervalMs = 100;
const state = { databaseMs: 0, directoryVersion: 0, revocationNumber: 0, epoch: "" };

/** Every reading waits until the test ends it, by then so many milliseconds later. */
function setUp() {
  let nowMs = 0;
  const readings: ((afterMs: number, fails?: boolean) => void)[] = [];
  const monotonic = { nowMs: () => nowMs };
  const sync = createFleetSync({
    ...{ monotonic, clock: createFleetClock(monotonic), intervalMs },
    readState: () =>
      new Promise<FleetState>((resolve, reject) => {
        readings.push((afterMs, fails = false) => {
          nowMs += afterMs;
          if (fails) reject(new Error("away"));
          else resolve(state);
        });
      }),
    onState: () => Promise.resolve(),
    onClockEvent: () => undefined,
    onFailure: () => undefined,
  });
  const pass = (durationMs: number) => {
    nowMs += durationMs;
  };
  /** The latest reading's end. */
  const end = async (afterMs: number, fails?: boolean) => {
    readings.at(-1)?.(afterMs, fails);
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { sync, readings, pass, end };
}

test("it is current by a reading that began within two intervals, and reads again where there is none", async () => {
  const { sync, readings, pass, end } = setUp();
  sync.start();
  await end(10);
  pass(150);
  expect(await sync.isCurrent()).toBe(true);
  expect(readings).toHaveLength(1);

  pass(100);
  const asked = sync.isCurrent();
  expect(readings).toHaveLength(2);
  await end(10);
  expect(await asked).toBe(true);
  await sync.stop();
});

test.each([
  ["began too early, and succeeds late", 600, false, 2, true],
  ["fails at once", 20, true, 2, true],
  ["takes long to fail, as where nobody answers", 600, true, 1, false],
])("a reading under way that %s", async (_, afterMs, fails, count, isCurrent) => {
  const { sync, readings, pass, end } = setUp();
  sync.start();
  pass(3 * intervalMs);
  const asked = sync.isCurrent();
  await end(afterMs, fails);
  expect(readings).toHaveLength(count);
  await end(10);
  expect(await asked).toBe(isCurrent);
  await sync.stop();
});
