/** One instance's life from its first keys to its end, with all that it leaves anywhere. */

import { readFileSync } from "node:fs";
import type { Ed25519PublicJwk } from "../../src/protocol/jwk.ts";
import { eventually, postLogin } from "../support/accounts.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { type FoundSeed, findSeeds } from "./seed-finder.ts";
import { type Diagnostics, diagnosticsIn, type StoredPiece } from "./stored-copies.ts";
import { readSecureHeap, searchFor, sweepMemory } from "./sweep.ts";

export interface Life {
  /** The keys that it published, by kid, each with the private half found in its memory. */
  readonly keys: ReadonlyMap<string, FoundSeed>;
  /** What it said it had published, shortly before its end. */
  readonly publishedKids: readonly string[];
  readonly droppedKids: readonly string[];
  /** After the first had been dropped: those that had not, and how often each seed lay in the secure heap. */
  readonly heldKids: readonly string[];
  readonly copiesInSecureHeap: Readonly<Record<string, number>>;
  /** Its memory but for the secure heap: while it signed with its first key, and after that one was dropped. */
  readonly memory: readonly ReturnType<typeof sweepMemory>[];
  readonly heapSnapshot: StoredPiece;
  readonly report: StoredPiece;
  readonly argumentList: string;
  readonly environment: string;
  /** Heads and bodies. */
  readonly answers: string;
  readonly output: string;
  readonly exitCode: number | null;
}

/** Periods of two seconds: a key is dropped five seconds after its retirement. */
const settings = {
  LOG_LEVEL: "trace",
  KEY_ROTATION_SCHEDULE: "*/2 * * * * *",
  ACCESS_TOKEN_TTL: "5s",
  VERIFY_GRACE: "1s",
};

/** The engine collects nothing of its own accord for so long: what is wiped was wiped by what the program does. */
const rareCollections = [
  "--no-memory-reducer",
  "--initial-old-space-size=256",
  "--min-semi-space-size=128",
  "--max-semi-space-size=128",
];

/** `folder` is empty; `canary`, plain text, gets into the arguments, the environment, an answer and the log. */
export async function liveAndSweep(databaseUrl: string, folder: string, canary: string): Promise<Life> {
  const { nodeFlags, ...diagnostics } = diagnosticsIn(folder);
  const instance = await startInstance({
    databaseUrl,
    nodeFlags: [...nodeFlags, ...rareCollections, `--conditions=${canary}`],
    settings: { ...settings, CANARY: canary },
  });
  try {
    return await live(instance, diagnostics, canary);
  } finally {
    await instance.stop("SIGKILL");
  }
}

async function live(
  instance: TestInstance,
  diagnostics: Omit<Diagnostics, "nodeFlags">,
  canary: string,
): Promise<Life> {
  const processId = instance.process.pid ?? 0;
  const keys = new Map<string, FoundSeed>();
  const answers: string[] = [];

  async function hear(asked: Promise<Response>): Promise<string> {
    const response = await asked;
    const body = await response.text();
    answers.push(JSON.stringify([...response.headers]), body);
    return body;
  }

  async function meetKeys(): Promise<void> {
    const jwks = await hear(fetch(`${instance.url}/.well-known/jwks.json`));
    const published = (JSON.parse(jwks) as { keys: Ed25519PublicJwk[] }).keys;
    const unknown = new Map(published.filter(({ kid }) => !keys.has(kid)).map(({ x, kid }) => [x, kid]));
    if (unknown.size === 0) return;
    for (const found of findSeeds(processId, [...unknown.keys()]))
      keys.set(unknown.get(found.x) ?? "", found);
  }

  const sweep = () => sweepMemory(processId, searchFor([...keys.values()].map(({ seed }) => seed)));
  const publishedKids = () => kidsLogged(instance.output(), "published a signing key");
  const droppedKids = () => kidsLogged(instance.output(), "dropped the private half of a retired key");

  await meetKeys();
  for (let count = 0; count < 12; count += 1) await hear(postLogin(instance.url));
  await hear(postLogin(instance.url, { password: "another one, of a good length" }));
  await hear(postLogin(instance.url, { username: 7 }));
  await hear(fetch(`${instance.url}/healthz`, { headers: { "x-request-id": canary } }));
  await hear(fetch(instance.metricsUrl));
  const whileSigning = sweep();

  await eventually(
    async () => {
      await hear(postLogin(instance.url));
      await meetKeys();
      return droppedKids().length > 0;
    },
    30_000,
    150,
  );
  const held = await whenCollected(async () => {
    await meetKeys();
    const heldKids = publishedKids().filter((kid) => !droppedKids().includes(kid));
    return { heldKids, copiesInSecureHeap: copiesIn(readSecureHeap(processId), keys) };
  });
  const memory = [whileSigning, sweep()];
  const heapSnapshot = await diagnostics.heapSnapshot(processId);
  const report = await diagnostics.report(processId);
  const lastKids = publishedKids();
  await eventually(async () => {
    await meetKeys();
    return lastKids.every((kid) => keys.has(kid));
  }).catch(() => undefined);
  const told = (name: "cmdline" | "environ") => readFileSync(`/proc/${processId}/${name}`, "latin1");
  const [argumentList, environment] = [told("cmdline"), told("environ")];
  const exitCode = await instance.stop();
  return {
    ...held,
    keys,
    publishedKids: lastKids,
    droppedKids: droppedKids(),
    memory,
    heapSnapshot,
    report,
    argumentList,
    environment,
    answers: answers.join("\n"),
    output: instance.output(),
    exitCode,
  };
}

function kidsLogged(output: string, message: string): string[] {
  return [...output.matchAll(new RegExp(`"kid":"([^"]+)".*"msg":"${message}"`, "g"))].map(
    ([, kid = ""]) => kid,
  );
}

function copiesIn(secureHeap: Buffer, keys: ReadonlyMap<string, FoundSeed>): Record<string, number> {
  const count = (seed: Buffer) => secureHeap.toString("latin1").split(seed.toString("latin1")).length - 1;
  return Object.fromEntries([...keys].map(([kid, { seed }]) => [kid, count(seed)]));
}

type Held = Pick<Life, "heldKids" | "copiesInSecureHeap">;

/** A dropped key is wiped when it is collected, soon after. Where that does not come, what there is says so. */
async function whenCollected(look: () => Promise<Held>): Promise<Held> {
  let held = await look();
  await eventually(
    async () => {
      held = await look();
      const copies = Object.values(held.copiesInSecureHeap).reduce((sum, count) => sum + count, 0);
      return copies === held.heldKids.length;
    },
    3000,
    100,
  ).catch(() => undefined);
  return held;
}
