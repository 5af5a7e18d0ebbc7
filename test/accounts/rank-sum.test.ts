import { expect, test } from "@jest/globals";
import { median, rankSumP } from "./rank-sum.ts";

/** P(U <= u) for n and m values without ties, by counting the orders they can come in. */
function exactTail(n: number, m: number, u: number): number {
  const known = new Map<string, number>();
  const orders = (left: number, right: number, sum: number): number => {
    if (sum < 0) return 0;
    if (left === 0 || right === 0) return sum === 0 ? 1 : 0;
    const key = `${left} ${right} ${sum}`;
    const count = known.get(key) ?? orders(left - 1, right, sum - right) + orders(left, right - 1, sum);
    known.set(key, count);
    return count;
  };
  const counts = Array.from({ length: n * m + 1 }, (_, sum) => orders(n, m, sum));
  const total = counts.reduce((sum, count) => sum + count, 0);
  return counts.slice(0, u + 1).reduce((sum, count) => sum + count, 0) / total;
}

test("the median is the middle one, or between the two", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 2, 3])).toBe(2.5);
});

test("p is what counting all orders gives, within a tenth", () => {
  for (const shift of [0.5, 2.5, 4.5]) {
    const a = Array.from({ length: 20 }, (_, index) => index);
    const b = a.map((value) => value + shift);
    const u = a.flatMap((one) => b.filter((other) => one > other)).length;
    const ratio = rankSumP(a, b) / (2 * exactTail(20, 20, u));
    expect(Math.abs(ratio - 1)).toBeLessThan(0.1);
    expect(rankSumP(b, a)).toBeCloseTo(rankSumP(a, b), 10);
  }
});

test("p of equal sets is 1, and ties alone make no difference", () => {
  expect(rankSumP([5, 5, 5], [5, 5, 5])).toBe(1);
  expect(rankSumP([1, 2, 2, 3], [1, 2, 2, 3])).toBeCloseTo(1, 6);
});

test("p is small as often as it says where there is no difference, and always where there is one", () => {
  const draw = (shift: number) => Array.from({ length: 60 }, () => shift + Math.random() + Math.random());
  const rounds = 1000;
  const small = Array.from({ length: rounds }, () => rankSumP(draw(0), draw(0))).filter((p) => p < 0.05);
  expect(small.length / rounds).toBeGreaterThan(0.015);
  expect(small.length / rounds).toBeLessThan(0.1);
  expect(rankSumP(draw(0), draw(0.6))).toBeLessThan(0.001);
});
