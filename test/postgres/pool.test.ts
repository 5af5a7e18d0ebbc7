import { expect, test } from "@jest/globals";
import { createPool, endPool, interval, servingTimeouts } from "../../src/postgres/pool.ts";
import { freshDatabase } from "../support/database.ts";

test("a time arrives as the milliseconds that a column would hold, whatever its microseconds", async () => {
  const database = await freshDatabase();
  const pool = createPool({ url: database.url, max: 1, timeouts: servingTimeouts, onError: () => undefined });
  // Both ends of every millisecond of a second, and both sides of its middle.
  const { rows } = await pool.query<{ read: number; held: number }>(
    `select t as read, t::timestamptz(3) as held
     from generate_series(0, 999) ms, unnest('{0, 1, 499, 500, 501, 999}'::int[]) us,
          lateral (select '2026-11-26 12:00:00+00'::timestamptz + (ms * 1000 + us) * interval '1 microsecond' as t) given`,
  );
  expect(rows).toHaveLength(6000);
  expect(rows.filter(({ read, held }) => read !== held)).toEqual([]);
  const { rows: strange } = await pool.query(
    "select 'infinity'::timestamptz as never, null::timestamptz as none",
  );
  expect(strange).toEqual([{ never: Number.POSITIVE_INFINITY, none: null }]);
  await endPool(pool);
  await database.drop();
});

test("an interval is exact to the millisecond, and holds no number that an older PostgreSQL does not read", async () => {
  const durationsMs = [0, 1, 999, 1001, 30 * 86_400_000, 90 * 86_400_000 + 7, 365 * 86_400_000];
  const intervals = durationsMs.map(interval);
  expect(intervals.map(Number.parseFloat).filter((number) => number >= 2 ** 31)).toEqual([]);
  const database = await freshDatabase();
  const { rows } = await database.pool.query(
    "select extract(epoch from given)::float8 * 1000 as ms from unnest($1::interval[]) given",
    [intervals],
  );
  expect(rows.map(({ ms }) => Math.round(ms))).toEqual(durationsMs);
  await database.drop();
});
