/** What a simulated fleet serves and who signs, at one moment. */

import type { DirectorySnapshot } from "../../src/keys/directory.ts";
import { jwksText } from "../../src/keys/jwks-document.ts";
import { isMature, retirementMs } from "../../src/keys/published-key.ts";
import type { Member } from "./fleet-member.ts";

export interface Sample {
  readonly atMs: number;
  /** Of the JWKS, as everybody serves it. */
  readonly keys: number;
  readonly bytes: number;
  readonly instances: number;
  /** With keys and a place. */
  readonly signers: number;
  /** Those that can lend, the leaving among them. */
  readonly matureSigners: number;
  /** Instances that are gone, and whose keys are not. */
  readonly outlived: ReadonlySet<string>;
}

const watcherCount = 4;

/** The instances whose JWKS is looked at: all others read the same rows. */
export function watchersOf(members: readonly Member[]): readonly Member[] {
  const watchers: Member[] = [];
  for (const member of members) {
    if (member.state === "live") watchers.push(member);
    if (watchers.length === watcherCount) break;
  }
  return watchers;
}

export function takeSample(
  members: readonly Member[],
  options: {
    readonly nowMs: number;
    readonly propagationDelayMs: number;
    demand(holds: boolean, claim: string): void;
  },
): { readonly served: DirectorySnapshot; readonly taken: Sample } {
  const { nowMs, demand } = options;
  const [served = { keys: [], changesAtMs: Number.POSITIVE_INFINITY }, ...others] = watchersOf(members).map(
    ({ instance }) => instance.directory.snapshot(),
  );
  const text = jwksText(served.keys);
  for (const { keys } of others) demand(jwksText(keys) === text, "I10: two instances serve other bytes");
  demand(served.keys.length <= 90, `the JWKS has ${served.keys.length} keys`);

  const here = new Set(members.map(({ instance }) => instance.id));
  const signing = members.map((member) => ({
    member,
    keys: member.instance.ring.keys().filter((key) => retirementMs(key) > nowMs),
  }));
  return {
    served,
    taken: {
      atMs: nowMs,
      keys: served.keys.length,
      bytes: Buffer.byteLength(text),
      instances: here.size,
      signers: signing.filter(({ member, keys }) => member.state === "live" && keys.length > 0).length,
      matureSigners: signing.filter(({ keys }) =>
        keys.some((key) => key.activatesAtMs <= nowMs && isMature(key, options.propagationDelayMs, nowMs)),
      ).length,
      outlived: new Set(served.keys.map(({ instanceId }) => instanceId).filter((id) => !here.has(id))),
    },
  };
}
