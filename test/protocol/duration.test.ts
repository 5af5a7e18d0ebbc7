import { expect, test } from "@jest/globals";
import { formatDuration, parseDurationMs } from "../../src/protocol/duration.ts";

test.each([
  ["0s", 0],
  ["500ms", 500],
  ["15m", 900_000],
  ["90d", 7_776_000_000],
  [" 2h ", 7_200_000],
])("%p is %p milliseconds", (text, durationMs) => {
  expect(parseDurationMs(text)).toBe(durationMs);
});

test.each(["", "5", "m", "1.5h", "-1s", "1 h", "1H", "9999999999999s", "1s1m"])(
  "%p is no duration",
  (text) => {
    expect(parseDurationMs(text)).toBeUndefined();
  },
);

test.each(["1500ms", "90s", "12m", "36h", "30d", "0ms"])("%p is written as it is read", (text) => {
  expect(formatDuration(parseDurationMs(text) ?? -1)).toBe(text);
});
