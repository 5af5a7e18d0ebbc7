import { beforeEach, describe, expect, test } from "@jest/globals";
import { hourMs, minuteMs } from "../../src/clock.ts";
import type { Revocation, RevocationStore } from "../../src/revocation/revocation.ts";
import { createRevocationLog, type RevocationLog } from "../../src/revocation/revocation-log.ts";

const epoch = "a".repeat(32);
const lifeMs = 62 * minuteMs;

let nowMs: number;
let stored: Revocation[];
let readings: number[];
let log: RevocationLog;

beforeEach(() => {
  nowMs = 1_800_000_000_000;
  stored = [];
  readings = [];
  log = createRevocationLog({ clock: { nowMs: () => nowMs }, store: inMemoryStore() });
});

/** As the table answers: what is not expired by its clock, which is the same here. */
function inMemoryStore(): RevocationStore {
  return {
    async listAfter(number) {
      readings.push(number);
      return stored.filter((entry) => entry.number > number && entry.expiresAtMs > nowMs);
    },
  };
}

const revocation = (number: number, expiresAtMs = nowMs + lifeMs): Revocation => ({
  number,
  type: "session",
  id: `session ${number}`,
  revokedAtMs: nowMs,
  expiresAtMs,
});

function append(count: number, expiresAtMs?: number): void {
  const last = stored.at(-1)?.number ?? 0;
  for (let step = 1; step <= count; step += 1) stored.push(revocation(last + step, expiresAtMs));
}

/** Follows what the one-row state says: by default that the last of what is stored has been committed. */
const follow = (revocationNumber = stored.at(-1)?.number ?? 0, of = epoch, databaseMs = nowMs) =>
  log.follow({ epoch: of, revocationNumber, databaseMs });
const numbers = (entries: readonly Revocation[]) => entries.map(({ number }) => number);

/** What a subscriber is told from now on, each time. */
function listen(): number[][] {
  const told: number[][] = [];
  log.subscribe((entries) => told.push(numbers(entries)));
  return told;
}

describe("reading", () => {
  test("before the first one nothing is known", () => {
    expect(log.isLoaded()).toBe(false);
    expect(log.after(0)).toEqual([]);
    expect(log.size()).toBe(0);
  });

  test("takes in what is there, and after that only what is new", async () => {
    append(3);
    await follow();
    expect(log.isLoaded()).toBe(true);
    expect(log.after(0)).toEqual(stored);
    expect(numbers(log.after(2))).toEqual([3]);
    expect(log.cursor()).toEqual({ epoch, number: 3 });
    append(2);
    await follow();
    expect(numbers(log.after(0))).toEqual([1, 2, 3, 4, 5]);
    expect(readings).toEqual([0, 3]);
  });

  test("asks the store for nothing while the number stands still, and is up to date all the same", async () => {
    append(1);
    await follow();
    nowMs += 5000;
    await follow();
    expect(readings).toEqual([0]);
    expect(log.asOfMs()).toBe(nowMs);
  });

  test("is loaded by an empty log too", async () => {
    await follow(0);
    expect(log.isLoaded()).toBe(true);
    expect(log.cursor()).toEqual({ epoch, number: 0 });
  });

  test("goes on behind what was committed between the state's reading and the log's: nothing comes twice", async () => {
    append(1);
    await follow();
    const told = listen();
    append(2);
    await follow(2);
    expect(log.cursor().number).toBe(3);
    await follow(3);
    expect(told).toEqual([[2, 3]]);
    expect(numbers(log.after(0))).toEqual([1, 2, 3]);
  });

  test("goes on behind numbers whose entries have expired", async () => {
    append(2, nowMs + 1000);
    nowMs += 2000;
    await follow();
    expect(log.cursor().number).toBe(2);
    expect(log.after(0)).toEqual([]);
  });

  test("that fails has read nothing: as_of and cursor stay, and the next one makes up for it", async () => {
    append(1);
    await follow();
    const readAtMs = nowMs;
    const told = listen();
    append(1);
    nowMs += 3000;
    const list = stored;
    stored = undefined as unknown as Revocation[];
    await expect(follow(2)).rejects.toThrow();
    expect(log.asOfMs()).toBe(readAtMs);
    expect(log.cursor().number).toBe(1);
    expect(told).toEqual([]);
    stored = list;
    await follow();
    expect(told).toEqual([[2]]);
    expect(log.asOfMs()).toBe(nowMs);
  });

  test("is as of the database's time, and never later than it is here", async () => {
    await follow(0, epoch, nowMs - 700);
    expect(log.asOfMs()).toBe(nowMs - 700);
    await follow(0, epoch, nowMs + 10_000);
    expect(log.asOfMs()).toBe(nowMs);
  });
});

describe("subscribers", () => {
  test("are told what is new, in order, once, and not what was there at the first reading", async () => {
    append(2);
    const told = listen();
    await follow();
    // That an epoch has begun, as it does for every instance that starts.
    expect(told.splice(0)).toEqual([[]]);
    await follow();
    append(3);
    await follow();
    await follow();
    expect(told).toEqual([[3, 4, 5]]);
  });

  test("find in the log what they are told", async () => {
    await follow();
    let known: readonly number[] = [];
    log.subscribe(() => {
      known = [...numbers(log.after(0)), log.cursor().number];
    });
    append(2);
    await follow();
    expect(known).toEqual([1, 2, 2]);
  });

  test("are told nothing more after they have left", async () => {
    await follow();
    const told: unknown[] = [];
    log.subscribe((entries) => told.push(entries))();
    append(1);
    await follow();
    expect(told).toEqual([]);
  });
});

describe("another epoch", () => {
  test("starts from the whole: what the database holds counts, and subscribers are told so", async () => {
    append(5);
    await follow();
    const told = listen();
    const other = "b".repeat(32);
    stored = [revocation(2), revocation(9)];
    await follow(9, other);
    expect(log.after(0)).toEqual(stored);
    expect(log.cursor()).toEqual({ epoch: other, number: 9 });
    expect(readings.at(-1)).toBe(0);
    expect(told).toEqual([[]]);
  });

  test("of which the first reading fails leaves everything as it was", async () => {
    append(2);
    await follow();
    const list = stored;
    stored = undefined as unknown as Revocation[];
    await expect(follow(7, "b".repeat(32))).rejects.toThrow();
    expect(log.cursor()).toEqual({ epoch, number: 2 });
    expect(log.after(0)).toEqual(list);
  });
});

describe("what has expired", () => {
  test("is given to nobody, from that moment on", async () => {
    append(1, nowMs + 1000);
    append(1, nowMs + 2000);
    await follow();
    nowMs += 999;
    expect(numbers(log.after(0))).toEqual([1, 2]);
    nowMs += 1;
    expect(numbers(log.after(0))).toEqual([2]);
  });

  test("leaves memory with the next readings, all 100,000 of it", async () => {
    append(100_000);
    await follow();
    expect(log.size()).toBe(100_000);
    nowMs += lifeMs + 2000;
    await follow();
    expect(log.size()).toBe(0);
    expect(log.cursor().number).toBe(100_000);
  });

  test("leaves memory while new entries come all the time, whatever their lives", async () => {
    const perMinute = 100;
    let largest = 0;
    // Ten hours, of which only an hour's worth is ever unexpired; every tenth entry lives for four.
    for (let minute = 0; minute < 600; minute += 1) {
      stored = stored.filter((entry) => entry.expiresAtMs > nowMs);
      const last = log.isLoaded() ? log.cursor().number : 0;
      for (let step = 1; step <= perMinute; step += 1) {
        stored.push(revocation(last + step, nowMs + (step % 10 === 0 ? 4 * hourMs : lifeMs)));
      }
      await follow();
      nowMs += minuteMs;
      largest = Math.max(largest, log.size());
    }
    expect(largest).toBeLessThan(perMinute * (62 + 24) * 1.05);
    expect(log.cursor().number).toBe(600 * perMinute);
  });
});
