/** A core dump of a running instance (I4), as gdb's gcore makes one: no private key is in it, nor of one that it has had. */

import { spawnSync } from "node:child_process";
import { closeSync, openSync, readSync, rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { canReadMemory } from "../fleet/memory-scan.ts";
import type { Search } from "../fleet/needle-search.ts";
import { findSeeds } from "../fleet/seed-finder.ts";
import { servedKeys } from "../fleet/stock-verification.ts";
import { formsIn, searchFor } from "../fleet/sweep.ts";
import { addAccount, eventually, login } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { type Settings, startInstance, type TestInstance, testSecret } from "../support/instance.ts";

const hasGdb = spawnSync("gdb", ["--version"]).status === 0;
const describeWithGdb = hasGdb && canReadMemory() ? describe : describe.skip;

/** Keys retire, and are dropped five seconds later. */
const rotating = { KEY_ROTATION_SCHEDULE: "*/2 * * * * *", ACCESS_TOKEN_TTL: "5s", VERIFY_GRACE: "1s" };
/** Most of a dump is zeros, which are passed over piece by piece. */
const pieceBytes = 256 * 1024;

describeWithGdb("a core dump of an instance (needs gdb on this machine)", () => {
  let folder: string;
  let database: TestDatabase;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "keyfleet-core-"));
    database = await freshDatabase();
    await addAccount(database.url);
  });
  afterEach(async () => {
    await database.drop();
    await rm(folder, { recursive: true, force: true });
  });

  /** The forms of the keys that are in the dump, and whether the fleet's secret is, which the process has to have. */
  function sweepCoreOf(processId: number, search: Search, commands: readonly string[] = []) {
    const file = path.join(folder, `core-${processId}`);
    const steps = [...commands, `generate-core-file ${file}`].flatMap((command) => ["-ex", command]);
    spawnSync("gdb", ["-nx", "-batch", "-p", String(processId), ...steps], { timeout: 60_000 });
    const descriptor = openSync(file, "r");
    const buffer = Buffer.alloc(pieceBytes);
    const zeros = Buffer.alloc(pieceBytes);
    const forms = new Set<string>();
    let hasFleetSecret = false;
    let dumpedBytes = 0;
    for (let at = 0; ; at += pieceBytes - search.overlapBytes) {
      const bytes = buffer.subarray(0, readSync(descriptor, buffer, 0, pieceBytes, at));
      if (bytes.length <= search.overlapBytes) break;
      if (bytes.equals(zeros.subarray(0, bytes.length))) continue;
      dumpedBytes += bytes.length;
      for (const form of formsIn(search, bytes)) forms.add(form);
      hasFleetSecret ||= bytes.includes(testSecret);
    }
    closeSync(descriptor);
    rmSync(file);
    return { forms: [...forms], hasFleetSecret, dumpedBytes };
  }

  /** Runs it until it has dropped a key, and gives the private halves of all that it published. */
  async function seedsOfLife(instance: TestInstance): Promise<readonly Buffer[]> {
    const seeds = new Map<string, Buffer>();
    await eventually(async () => {
      await login(instance.url);
      const unknown = [...(await servedKeys(instance)).values()]
        .map(({ x }) => x)
        .filter((x) => !seeds.has(x));
      if (unknown.length > 0) {
        for (const { x, seed } of findSeeds(instance.process.pid ?? 0, unknown)) seeds.set(x, seed);
      }
      return instance.output().includes("dropped the private half of a retired key");
    }, 30_000);
    return [...seeds.values()];
  }

  async function withInstance<Result>(
    options: { readonly settings?: Settings; readonly nodeFlags?: readonly string[] },
    work: (instance: TestInstance, processId: number) => Promise<Result>,
  ): Promise<Result> {
    const instance = await startInstance({ databaseUrl: database.url, ...options });
    try {
      return await work(instance, instance.process.pid ?? 0);
    } finally {
      await instance.stop("SIGKILL");
    }
  }

  async function seedsOf(instance: TestInstance, processId: number): Promise<readonly Buffer[]> {
    await login(instance.url);
    const keys = [...(await servedKeys(instance)).values()].map(({ x }) => x);
    return findSeeds(processId, keys).map(({ seed }) => seed);
  }

  test(
    "has the process's memory, and none of its private keys in any form",
    () =>
      withInstance({ settings: rotating }, async (instance, processId) => {
        const seeds = await seedsOfLife(instance);
        expect(seeds.length).toBeGreaterThanOrEqual(4);
        const core = sweepCoreOf(processId, searchFor(seeds));
        expect(core).toMatchObject({ forms: [], hasFleetSecret: true });
        expect(core.dumpedBytes).toBeGreaterThan(20_000_000);
      }),
    240_000,
  );

  test("control: with the mappings that are to be left out, it has them", () =>
    withInstance({}, async (instance, processId) => {
      const seeds = await seedsOf(instance, processId);
      const everything = ["set use-coredump-filter off", "set dump-excluded-mappings on"];
      expect(sweepCoreOf(processId, searchFor(seeds), everything).forms).toContain("raw");
      await login(instance.url);
    }));

  test("control: without a secure heap, it has them", () =>
    withInstance({ nodeFlags: ["--secure-heap=0"] }, async (instance, processId) => {
      const seeds = await seedsOf(instance, processId);
      expect(sweepCoreOf(processId, searchFor(seeds)).forms).toContain("raw");
    }));
});
