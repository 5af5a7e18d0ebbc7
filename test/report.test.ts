import { expect, test } from "@jest/globals";
import pino from "pino";
import type { KeyEvent } from "../src/keys/key-rotation.ts";
import { createMetrics } from "../src/metrics.ts";
import { createDirectorySizeReporter, createFleetReporter, createKeyReporter } from "../src/report.ts";

/** A logger whose lines are kept, and metrics of its own. */
function setUp() {
  const lines: string[] = [];
  const metrics = createMetrics();
  const logger = pino({ base: null, timestamp: false }, { write: (line: string) => lines.push(line) });
  return { logger, metrics, lines: () => lines.splice(0).map((line) => JSON.parse(line)) };
}

const { error, warn } = pino.levels.values;

async function readingOf(metric: { get(): Promise<{ values: { value: number }[] }> }): Promise<number> {
  return (await metric.get()).values[0]?.value ?? Number.NaN;
}

const published = {
  type: "published",
  key: { kid: "kid", activatesAtMs: 0, retiresAtMs: 1 },
} as KeyEvent;
const refused = (reason: "clock_differs" | "instance_ended"): KeyEvent => ({ type: "refused", reason });

test("a key that is refused again and again is logged once for each reason, and counted every time", async () => {
  const { logger, metrics, lines } = setUp();
  const report = createKeyReporter(logger, metrics);
  for (const event of [
    ...Array<KeyEvent>(5).fill(refused("clock_differs")),
    ...Array<KeyEvent>(5).fill(refused("instance_ended")),
    published,
    refused("instance_ended"),
  ]) {
    report(event);
  }
  expect(lines().map(({ reason }) => reason ?? "published")).toEqual([
    "clock_differs",
    "instance_ended",
    "published",
    "instance_ended",
  ]);
  const { values } = await metrics.keyEvents.get();
  expect(values).toContainEqual({ labels: { event: "refused" }, value: 11 });
});

test.each([
  ["80 keys", { keys: 79, bytes: 1000 }, { keys: 80, bytes: 1000 }],
  ["four fifths of 16 KB", { keys: 10, bytes: 13_107 }, { keys: 10, bytes: 13_108 }],
])("from %s on the JWKS's size is warned of once, until it was smaller", async (_, small, large) => {
  const { logger, metrics, lines } = setUp();
  const report = createDirectorySizeReporter(logger, metrics);
  const warning = {
    level: warn,
    msg: expect.stringContaining("nearly as large as consumers take"),
    ...large,
  };
  const told = async (size: { keys: number; bytes: number }) => {
    report(size);
    expect(await readingOf(metrics.directoryKeys)).toBe(size.keys);
    expect(await readingOf(metrics.directoryBytes)).toBe(size.bytes);
    return lines();
  };
  expect(await told(small)).toEqual([]);
  expect(await told(large)).toEqual([warning]);
  expect(await told(large)).toEqual([]);
  expect(await told(small)).toEqual([]);
  expect(await told(large)).toEqual([warning]);
});

test("every instance that is lost is warned of by its id, and counted", async () => {
  const { logger, metrics, lines } = setUp();
  const { onLost } = createFleetReporter(logger, metrics);
  onLost([]);
  expect(lines()).toEqual([]);
  onLost(["one", "two", "three"]);
  onLost(["four"]);
  const msg = expect.stringContaining("silent for a minute");
  expect(lines()).toEqual(
    ["one", "two", "three", "four"].map((instance) => ({ level: warn, msg, instance })),
  );
  expect(await readingOf(metrics.lostInstances)).toBe(4);
});

test("a second process under an instance's id is an alarm each time, and counted", async () => {
  const { logger, metrics, lines } = setUp();
  const { onEnded } = createFleetReporter(logger, metrics);
  onEnded("duplicated");
  onEnded("stopped");
  const msg = expect.stringContaining("another process runs under this instance's id");
  expect(lines()).toEqual(["duplicated", "stopped"].map((why) => ({ level: error, msg, why })));
  expect(await readingOf(metrics.duplicatedInstances)).toBe(2);
});

test("rows that were put back are an alarm and counted; that there were none is neither", async () => {
  const { logger, metrics, lines } = setUp();
  const { onRestored } = createFleetReporter(logger, metrics);
  onRestored(0);
  expect(lines()).toEqual([]);
  expect(await readingOf(metrics.directoryRestoredKeys)).toBe(0);
  onRestored(3);
  onRestored(2);
  const msg = expect.stringContaining("gone back in time");
  expect(lines()).toEqual([3, 2].map((rows) => ({ level: error, msg, rows })));
  expect(await readingOf(metrics.directoryRestoredKeys)).toBe(5);
});
