import { expect, test } from "@jest/globals";
import { shortcomings } from "./shortcomings.ts";

const bounds = { least: { logins: 10 }, verificationsEach: 100, excusedShare: 0.1 };
const enough: readonly [string, number][] = [
  ["logins", 10],
  ["jose: verifications", 900],
  ["jose: rejections, revoked", 60],
  ["jose: rejections, nobody answered", 40],
  ["jose, slow: verifications", 100],
];
const of = (changes: Readonly<Record<string, number>> = {}) =>
  shortcomings(new Map([...enough, ...Object.entries(changes)]), ["jose", "jose, slow"], bounds);

test("a storm that keeps every bound has none", () => {
  expect(of()).toEqual([]);
});

test("too few of what has to happen is one, and so is none at all", () => {
  expect(of({ logins: 9 })).toEqual(["logins: 9, in place of 10 at least"]);
  expect(shortcomings(new Map(), ["jose"], bounds)).toEqual([
    "logins: 0, in place of 10 at least",
    "jose: verifications: 0, in place of 100 at least",
  ]);
});

test("so is one consumer that verified too little", () => {
  expect(of({ "jose, slow: verifications": 99 })).toEqual([
    "jose, slow: verifications: 99, in place of 100 at least",
  ]);
});

test("so is one whose rejections are excused too often, for whatever reasons", () => {
  expect(of({ "jose: rejections, revoked": 61 })).toEqual(["jose: 101 rejections that do not count"]);
  expect(of({ "jose, slow: rejections, cut off instance": 12 })).toEqual([
    "jose, slow: 12 rejections that do not count",
  ]);
});
