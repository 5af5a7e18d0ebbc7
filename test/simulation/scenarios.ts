/** What happens to the simulated fleets, and what is taken down of it. */

import { minuteMs, secondMs } from "../../src/clock.ts";
import type { Member } from "./fleet-member.ts";
import type { Sample } from "./fleet-sample.ts";
import type { LargeFleet } from "./large-fleet.ts";
import { reckonTimers, type StatementCounts } from "./statement-load.ts";

/** The death of a signer, and how long after it what followed. */
export interface Death {
  readonly atMs: number;
  readonly placeTakenMs: number;
  readonly forgottenMs: number;
}

export interface Outcome {
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly samples: readonly Sample[];
  readonly instanceSeconds: number;
  readonly statements: StatementCounts;
  readonly deaths: readonly Death[];
}

interface Killed {
  readonly id: string;
  readonly atMs: number;
  readonly signersBefore: number;
}

/** Lets `work` plan what is to happen within so long, and takes down what comes of it. */
export async function watch(
  fleet: LargeFleet,
  name: string,
  durationMs: number,
  plan: (kill: (member: Member) => Promise<void>) => void,
): Promise<Outcome> {
  const startMs = fleet.nowMs();
  const before = {
    counts: fleet.counts(),
    seconds: fleet.instanceSeconds(),
    heard: fleet.notificationsHeard(),
  };
  const from = fleet.samples.length;
  const killed: Killed[] = [];
  plan(async (member) => {
    const signersBefore = fleet.samples.at(-1)?.signers ?? 0;
    if (fleet.isSigner(member)) killed.push({ id: member.instance.id, atMs: fleet.nowMs(), signersBefore });
    await fleet.kill(member);
  });
  await fleet.runUntil(startMs + durationMs);
  const samples = fleet.samples.slice(from);
  const instanceSeconds = fleet.instanceSeconds() - before.seconds;
  const counts = Object.fromEntries(
    Object.entries(fleet.counts()).map(([kind, count]) => [
      kind,
      count - before.counts[kind as keyof StatementCounts],
    ]),
  ) as StatementCounts;
  const heard = fleet.notificationsHeard() - before.heard;
  return {
    name,
    startMs,
    endMs: fleet.nowMs(),
    samples,
    instanceSeconds,
    statements: reckonTimers(counts, instanceSeconds, heard, 500),
    deaths: killed.map((death) => followDeath(samples, death)),
  };
}

function followDeath(samples: readonly Sample[], { id, atMs, signersBefore }: Killed): Death {
  const later = samples.filter((sample) => sample.atMs > atMs);
  const sinceMs = (sample: Sample | undefined) => (sample?.atMs ?? Number.NaN) - atMs;
  const down = later.findIndex(({ signers }) => signers < signersBefore);
  return {
    atMs,
    placeTakenMs: sinceMs(later.slice(down + 1).find(({ signers }) => signers >= signersBefore)),
    forgottenMs: sinceMs(later.find(({ outlived }) => !outlived.has(id))),
  };
}

export function joinOver(fleet: LargeFleet, count: number, durationMs: number, random: () => number): void {
  const startMs = fleet.nowMs();
  for (let joined = 0; joined < count; joined += 1)
    fleet.at(startMs + random() * durationMs, () => fleet.join());
}

/** Each is replaced after a while, as an orchestrator does it. */
export function killAtRandom(
  fleet: LargeFleet,
  kill: (member: Member) => Promise<void>,
  plan: {
    readonly count: number;
    readonly durationMs: number;
    readonly replacedAfterMs: number;
    random(): number;
    among(member: Member): boolean;
  },
): void {
  const startMs = fleet.nowMs();
  for (let killed = 0; killed < plan.count; killed += 1)
    fleet.at(startMs + plan.random() * plan.durationMs, async () => {
      const live = fleet.members().filter((member) => member.state === "live" && plan.among(member));
      const chosen = live[Math.floor(plan.random() * live.length)];
      if (chosen === undefined) return;
      await kill(chosen);
      fleet.at(fleet.nowMs() + plan.replacedAfterMs, () => fleet.join());
    });
}

/** In waves a minute apart: so many start, and as many of the old are told to stop. */
export function replaceAll(fleet: LargeFleet, waves: number, lingerMs: number): void {
  const startMs = fleet.nowMs();
  const old = fleet.members().filter(({ state }) => state === "live");
  const size = Math.ceil(old.length / waves);
  for (let wave = 0; wave < waves; wave += 1) {
    const leaving = old.slice(wave * size, (wave + 1) * size);
    fleet.at(startMs + wave * minuteMs, async () => {
      for (const _ of leaving) await fleet.join();
    });
    fleet.at(startMs + wave * minuteMs + 2 * secondMs, async () => {
      for (const member of leaving) await fleet.leave(member, lingerMs);
    });
  }
}

/** How long after a key's commit each instance serves it that hears no notification, and reads every half second. */
export async function convergeByPolling(fleet: LargeFleet, random: () => number): Promise<readonly number[]> {
  const knownBefore = new Set(served(fleet));
  while (served(fleet).every((kid) => knownBefore.has(kid))) await fleet.runUntil(fleet.nowMs() + secondMs);
  const kid = served(fleet).find((candidate) => !knownBefore.has(candidate)) as string;
  const committedAtMs = fleet.nowMs();
  const delaysMs: number[] = [];
  for (const { instance, state } of fleet.members()) {
    if (state !== "live" || knows(instance, kid)) continue;
    fleet.at(committedAtMs + random() * 500 * (0.9 + random() / 5), async () => {
      await instance.sync();
      if (knows(instance, kid)) delaysMs.push(fleet.nowMs() - committedAtMs);
    });
  }
  await fleet.runUntil(committedAtMs + secondMs);
  const unknowing = fleet
    .members()
    .filter(({ state, instance }) => state === "live" && !knows(instance, kid));
  if (unknowing.length > 0) throw new Error(`${unknowing.length} instances do not serve the key`);
  return delaysMs;
}

function served(fleet: LargeFleet): readonly string[] {
  const first = fleet.members().find(({ state }) => state === "live");
  return first?.instance.directory.snapshot().keys.map(({ kid }) => kid) ?? [];
}

function knows(instance: Member["instance"], kid: string): boolean {
  return instance.directory.snapshot().keys.some((key) => key.kid === kid);
}

/** How long all instances take, in real time, to read a change that they are told of at once: on this machine. */
export async function tellAtOnce(fleet: LargeFleet, change: () => Promise<unknown>): Promise<number> {
  await change();
  const startedAtMs = performance.now();
  const live = fleet.members().filter(({ state }) => state === "live");
  await Promise.all(live.map(({ instance }) => instance.sync()));
  return performance.now() - startedAtMs;
}
