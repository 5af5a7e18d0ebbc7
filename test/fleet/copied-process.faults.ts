/** A copied machine: two processes with one memory, and so with the same ring and the same beat under way. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { createInstance } from "../../src/fleet/instance.ts";
import { commandTimeouts, createPool, endPool, type Pool } from "../../src/postgres/pool.ts";
import { createFleetRows } from "../postgres/fleet-rows.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { type CopiedProcess, copyProcess } from "./copied-process.ts";

let database: TestDatabase;
let pool: Pool;
let folder: string;
let copies: readonly CopiedProcess[] = [];

beforeEach(async () => {
  database = await freshDatabase();
  pool = createPool({ url: database.url, max: 2, timeouts: commandTimeouts, onError: () => undefined });
  folder = await mkdtemp(path.join(tmpdir(), "keyfleet-copy-"));
});
afterEach(async () => {
  await Promise.all(copies.map((copy) => copy.stop()));
  await rm(folder, { recursive: true });
  await endPool(pool);
  await database.drop();
});

test("the beat that was under way is both's, and a repeat of it is no double; with the next one the copy is seen", async () => {
  const instance = createInstance();
  const { instances } = createFleetRows(pool);
  await instances.register(instance);
  const [original, copy] = await copyProcess(instance.id, folder);
  copies = [original, copy];
  expect(original.beats).toHaveLength(2);
  expect(copy.beats).toEqual(original.beats);
  // The first was answered before the machine was copied, and the second was written.
  for (const beat of original.beats) await instances.beat(beat);

  expect([await original.beat(instances), await copy.beat(instances)]).toEqual(["alive", "alive"]);
  // Beats are told apart in age by milliseconds.
  await pool.query("select pg_catalog.pg_sleep(0.001)");
  expect([await original.beat(instances), await copy.beat(instances)]).toEqual(["alive", "duplicated"]);
  expect(await original.beat(instances)).toBe("stopped");
});
