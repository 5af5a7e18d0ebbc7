import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { addAccount, login } from "../support/accounts.ts";
import { startInstance, testSecret } from "../support/instance.ts";
import { type OwnServer, startOwnServer } from "../support/own-server.ts";
import { startLeakyProcess } from "./leaky-process.ts";
import { canReadMemory, isSecureHeap } from "./memory-scan.ts";
import type { Search } from "./needle-search.ts";
import { findSeeds } from "./seed-finder.ts";
import { servedKeys } from "./stock-verification.ts";
import { databaseFiles, databaseRows, diagnosticsIn } from "./stored-copies.ts";
import { formsIn, searchFor, sweepMemory, sweepPieces } from "./sweep.ts";
import { type Life, liveAndSweep } from "./swept-life.ts";

/** Elsewhere nobody can look into a process: Linux alone, and not where Yama forbids it. */
const describeWhereMemoryIsReadable = canReadMemory() ? describe : describe.skip;

let folder: string;
/** Its own, and all of its write-ahead log is kept: checkpoints, of other tests too, would have it overwritten. */
let database: OwnServer;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "keyfleet-sweep-"));
  database = await startOwnServer({ settings: { wal_keep_size: "1GB" } });
  await addAccount(database.url);
});
afterAll(async () => {
  await database.remove();
  await rm(folder, { recursive: true, force: true });
});

const newFolder = () => mkdtemp(path.join(folder, "process-"));

describeWhereMemoryIsReadable("in the whole life of an instance, its private keys", () => {
  const startedAtMs = Date.now();
  const canary = randomBytes(32);
  const canaryBefore = randomBytes(32);
  let life: Life;
  let seeds: Search;

  beforeAll(async () => {
    // Into the write-ahead log and nowhere else: a page of a table could be logged again later.
    await database.pool.query("select pg_logical_emit_message(false, 'canary', $1::bytea)", [canaryBefore]);
    life = await liveAndSweep(database.url, await newFolder(), canary.toString("hex"));
    seeds = searchFor([...life.keys.values()].map(({ seed }) => seed));
    await database.pool.query("create table canary (raw bytea, text text)");
    await database.pool.query("insert into canary values ($1, encode($1, 'base64'))", [canary]);
  }, 90_000);

  test("were all found, in memory that is locked and left out of core dumps", () => {
    expect(life.publishedKids.length).toBeGreaterThanOrEqual(4);
    expect([...life.keys.keys()]).toEqual(expect.arrayContaining([...life.publishedKids]));
    for (const { mapping } of life.keys.values()) expect(isSecureHeap(mapping)).toBe(true);
  });

  test("lie there once each until they are dropped, and are wiped then", () => {
    expect(life.droppedKids.length).toBeGreaterThan(0);
    for (const [kid, copies] of Object.entries(life.copiesInSecureHeap)) {
      expect([kid, copies]).toEqual([kid, life.heldKids.includes(kid) ? 1 : 0]);
    }
  });

  test("are in no form anywhere else in its memory, neither while it signs nor after they retired", () => {
    for (const { sweptBytes, forms } of life.memory) {
      expect(sweptBytes).toBeGreaterThan(20_000_000);
      expect(forms).toEqual([]);
    }
  });

  test("are in no heap snapshot and in no report", () => {
    expect(life.heapSnapshot.bytes.length).toBeGreaterThan(5_000_000);
    expect(formsIn(searchFor([canary]), life.report.bytes)).toContain("hex");
    for (const { bytes } of [life.heapSnapshot, life.report]) expect(formsIn(seeds, bytes)).toEqual([]);
  });

  test("are in none of its arguments, environment variables, answers and log lines", () => {
    expect(life.exitCode).toBe(0);
    for (const text of [life.argumentList, life.environment, life.answers, life.output]) {
      expect(formsIn(searchFor([canary]), text)).toContain("hex");
      expect(formsIn(seeds, text)).toEqual([]);
    }
  });

  test("are in no row of the database", async () => {
    const canaries = await sweepPieces(searchFor([canary]), databaseRows(database.pool));
    expect(canaries).toEqual(
      expect.arrayContaining(["table public.canary: base64", "table public.canary: hex"]),
    );
    expect(await sweepPieces(seeds, databaseRows(database.pool))).toEqual([]);
  });

  test("are in no file of the database, its write-ahead log since before that life among them", async () => {
    const files = () => databaseFiles(database.pool, startedAtMs);
    const canaries = await sweepPieces(searchFor([canary]), files());
    expect(canaries).toContainEqual(expect.stringMatching(/^base\/\d+\/\d+: raw$/));
    for (const found of [canaries, await sweepPieces(searchFor([canaryBefore]), files())])
      expect(found).toContainEqual(expect.stringMatching(/^pg_wal\/[0-9A-F]{24}: raw$/));
    expect(await sweepPieces(seeds, files())).toEqual([]);
  });

  test("and the fleet's secret is in no report, though it came by the environment", () => {
    const { environmentVariables } = JSON.parse(life.report.bytes.toString());
    expect(environmentVariables).toMatchObject({ LOG_LEVEL: "trace" });
    expect(environmentVariables).not.toHaveProperty("FLEET_SECRET");
    expect(life.environment).toContain(testSecret);
    for (const text of [life.report.bytes.toString(), life.answers, life.output])
      expect(text).not.toContain(testSecret);
  });
});

describeWhereMemoryIsReadable("the sweep finds what is there", () => {
  const stops: (() => Promise<unknown>)[] = [];
  afterEach(() => Promise.all(stops.splice(0).map((stop) => stop())));

  async function leaky(source: string, nodeFlags: readonly string[] = []) {
    const { processId, x, stop } = await startLeakyProcess(source, nodeFlags);
    stops.push(stop);
    const [found] = findSeeds(processId, [x]);
    if (found === undefined) throw new Error("the seed was not found");
    expect(isSecureHeap(found.mapping)).toBe(true);
    return { processId, search: searchFor([found.seed]) };
  }

  test("in an instance without a secure heap: its seeds, in memory that a core dump has", async () => {
    const instance = await startInstance({ databaseUrl: database.url, nodeFlags: ["--secure-heap=0"] });
    stops.push(instance.stop);
    await login(instance.url);
    const processId = instance.process.pid ?? 0;
    const publicKeys = [...(await servedKeys(instance)).values()].map(({ x }) => x);
    const found = findSeeds(processId, publicKeys);
    expect(found).toHaveLength(2);
    const search = searchFor(found.map(({ seed }) => seed));
    expect(sweepMemory(processId, search).forms).toContain("raw");
  });

  /** Other processors' code for SHA-512 keeps the schedule elsewhere. */
  const testWhereStacksHoldIt = process.arch === "x64" ? test : test.skip;

  testWhereStacksHoldIt("of a key made by WebCrypto: its hash's schedule, on a thread's stack", async () => {
    const { processId, search } = await leaky(`
      const pair = globalThis.pair = await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]);
      x = (await crypto.subtle.exportKey("jwk", pair.publicKey)).x;`);
    expect(sweepMemory(processId, search).forms).toContain("schedule");
  });

  test("of a key that was exported: every form that it was given, and texts in a heap snapshot", async () => {
    const diagnostics = diagnosticsIn(await newFolder());
    const { processId, search } = await leaky(
      `import { createHash, generateKeyPairSync } from "node:crypto";
      const pair = globalThis.pair = generateKeyPairSync("ed25519");
      const jwk = globalThis.jwk = pair.privateKey.export({ format: "jwk" });
      const seed = globalThis.seed = Buffer.from(jwk.d, "base64url");
      globalThis.digest = createHash("sha512").update(seed).digest();
      globalThis.texts = [seed.toString("hex"), seed.toString("hex").toUpperCase(), JSON.stringify(seed),
        (await import("node:util")).inspect(seed), pair.privateKey.export({ format: "pem", type: "pkcs8" })];
      x = jwk.x;`,
      diagnostics.nodeFlags,
    );
    const textForms = ["HEX", "base64", "base64url", "decimal", "hex", "spaced hex"];
    expect(sweepMemory(processId, search).forms).toEqual(
      expect.arrayContaining([...textForms, "digest", "raw"]),
    );
    const { bytes } = await diagnostics.heapSnapshot(processId);
    expect(formsIn(search, bytes)).toEqual(expect.arrayContaining(textForms));
  });

  test("and nothing where there is nothing: in a process that makes its keys as Keyfleet does", async () => {
    const { processId, search } = await leaky(`
      import { generateKeyPairSync, sign } from "node:crypto";
      const pair = globalThis.pair = generateKeyPairSync("ed25519");
      for (let count = 0; count < 100; count += 1) sign(null, Buffer.from("a token"), pair.privateKey);
      x = pair.publicKey.export({ format: "jwk" }).x;`);
    expect(sweepMemory(processId, search).forms).toEqual([]);
  });
});
