import { expect, test } from "@jest/globals";
import pino from "pino";
import type { KeyEvent } from "../src/keys/key-rotation.ts";
import { createMetrics } from "../src/metrics.ts";
import { createKeyReporter } from "../src/report.ts";

const published = {
  type: "published",
  key: { kid: "kid", activatesAtMs: 0, retiresAtMs: 1 },
} as KeyEvent;
const refused = (reason: "clock_differs" | "instance_ended"): KeyEvent => ({ type: "refused", reason });

test("a key that is refused again and again is logged once for each reason, and counted every time", async () => {
  const lines: string[] = [];
  const metrics = createMetrics();
  const report = createKeyReporter(pino({}, { write: (line: string) => lines.push(line) }), metrics);
  for (const event of [
    ...Array<KeyEvent>(5).fill(refused("clock_differs")),
    ...Array<KeyEvent>(5).fill(refused("instance_ended")),
    published,
    refused("instance_ended"),
  ]) {
    report(event);
  }
  expect(lines.map((line) => JSON.parse(line).reason ?? "published")).toEqual([
    "clock_differs",
    "instance_ended",
    "published",
    "instance_ended",
  ]);
  const { values } = await metrics.keyEvents.get();
  expect(values).toContainEqual({ labels: { event: "refused" }, value: 11 });
});
