/** Everybody who checks tokens: the consumers of Node, those of other languages that are given, and our own verifier. */

import { setTimeout as pause } from "node:timers/promises";
import { expect, test } from "@jest/globals";
import { createVerifier, type RevocationOptions } from "../../src/verifier/index.ts";
import { eventually } from "../support/accounts.ts";
import { ourVerifier } from "./checks.ts";
import { type ForeignKind, prepareForeignConsumers } from "./consumers/foreign-consumers.ts";
import { type Consumer, createConsumers, withMadeUpKey } from "./consumers.ts";
import { createHoldOff } from "./hold-off.ts";

export interface PopulationOptions {
  /** Of the front that they read through. */
  readonly issuer: string;
  /** How long those that wait before they read again do so; where it is not given, each as by default. */
  readonly staleMs?: number;
  readonly foreign?: readonly ForeignKind[];
  readonly besides?: readonly Consumer[];
  /** How our verifier follows revocations. By default it rejects what it has known too little of for a minute. */
  readonly revocation?: RevocationOptions;
}

export interface Population {
  readonly names: readonly string[];
  /** Everybody checks it, at once. Who rejects it, and what each says. */
  rejecting(token: string): Promise<ReadonlyMap<string, string>>;
  /** The same token as if another key had signed it: has them read the JWKS, and then hold off from it. Who accepts it. */
  acceptingMadeUp(token: string): Promise<readonly string[]>;
  /** How many tokens each has accepted, of who has accepted the fewest. */
  leastAccepted(): number;
  close(): Promise<void>;
}

/** Resolves when our verifier knows what is revoked. */
export async function startPopulation(options: PopulationOptions): Promise<Population> {
  const { issuer, staleMs, foreign = [], besides = [], revocation = { whenStale: "reject" } } = options;
  const reading = { issuer, ...(staleMs === undefined ? {} : { staleMs }) };
  const verifier = createVerifier({ issuer, audience: issuer, revocation });
  const consumers: readonly Consumer[] = [
    ...(await createConsumers(reading)),
    ...startForeign(foreign, issuer, staleMs),
    { ...verifier, ...ourVerifier, defaultStaleMs: ourVerifier.staleMs },
    ...besides,
  ];
  const everybody = consumers.map(({ name, verify, unanswered, staleMs: holdsOffMs }) => ({
    name,
    verify,
    accepted: 0,
    holdOff: createHoldOff(unanswered, holdsOffMs),
  }));
  await verifier.ready();
  return {
    names: everybody.map(({ name }) => name),
    async rejecting(token) {
      const rejecting = new Map<string, string>();
      const checkBy = async (one: (typeof everybody)[number]) => {
        const refusal = await refusalOf(one, token);
        if (refusal === undefined) one.accepted += 1;
        else if (!one.holdOff.excuses(refusal, Date.now())) rejecting.set(one.name, refusal);
      };
      await Promise.all(everybody.map(checkBy));
      return rejecting;
    },
    async acceptingMadeUp(token) {
      const madeUp = withMadeUpKey(token);
      const refusals = await Promise.all(everybody.map((one) => refusalOf(one, madeUp)));
      return everybody.filter((_, index) => refusals[index] === undefined).map(({ name }) => name);
    },
    leastAccepted: () => Math.min(...everybody.map(({ accepted }) => accepted)),
    close: async () => void (await Promise.all(consumers.map((consumer) => consumer.close()))),
  };
}

/** That a rejection is seen: everybody rejects the token with another signature. */
export async function seeAllReject({ names, rejecting }: Population, token: string): Promise<void> {
  const signatureAt = token.lastIndexOf(".") + 1;
  const otherFirst = token.charAt(signatureAt) === "A" ? "B" : "A";
  const forged = token.slice(0, signatureAt) + otherFirst + token.slice(signatureAt + 1);
  expect([...(await rejecting(forged)).keys()].sort()).toEqual([...names].sort());
}

/** What it says of it; undefined where it accepts it. */
function refusalOf({ verify }: Pick<Consumer, "verify">, token: string): Promise<string | undefined> {
  return verify(token).then(() => undefined, String);
}

/** At the top of a test file: those of other languages that can be built here; the others are shown as skipped. */
export async function buildForeign(): Promise<readonly ForeignKind[]> {
  const { kinds, missing } = await prepareForeignConsumers();
  // Jest names what it skips only where something else has run.
  if (missing.length > 0) console.log(["skipped:", ...missing].join("\n"));
  for (const why of missing) test.skip(why, () => undefined);
  return kinds;
}

/** `cooldownMs`: in place of what each has by default. */
export function startForeign(
  kinds: readonly ForeignKind[],
  issuer: string,
  cooldownMs?: number,
): readonly Consumer[] {
  const trust = { issuer, audience: issuer, jwksUrl: new URL(`${issuer}/.well-known/jwks.json`) };
  return kinds.map((kind) => ({
    ...kind.start(trust, cooldownMs),
    defaultStaleMs: kind.defaultCooldownMs,
    unanswered: kind.unanswered,
  }));
}

export interface Rounds {
  /** Who rejected a token, or accepted one of a made-up key, each with the first of what there was. */
  readonly complaints: ReadonlyMap<string, string>;
  /** So many more, from now on. */
  more(rounds: number): Promise<void>;
  stop(): Promise<void>;
}

const pauseMs = 50;

/** Everybody checks the newest of the tokens and one of the others, round after round; and somebody tries made-up keys. */
export function startRounds(population: Population, tokens: readonly string[]): Rounds {
  const complaints = new Map<string, string>();
  let rounds = 0;
  let stopped = false;

  function complain(name: string, what: string): void {
    if (!complaints.has(name)) complaints.set(name, what);
  }

  async function check(token: string): Promise<void> {
    for (const [name, why] of await population.rejecting(token)) complain(name, why);
  }

  async function goRound(): Promise<void> {
    const newest = tokens.at(-1);
    const other = tokens[rounds % tokens.length];
    if (newest === undefined || other === undefined) return;
    await Promise.all([check(newest), check(other)]);
    for (const name of await population.acceptingMadeUp(other)) complain(name, "accepts a made-up key");
    rounds += 1;
  }

  const going = (async () => {
    for (; !stopped; await pause(pauseMs)) await goRound();
  })();
  return {
    complaints,
    async more(count) {
      // The one that is under way began before.
      const enough = rounds + count + 1;
      await eventually(() => rounds >= enough, 60_000);
    },
    stop() {
      stopped = true;
      return going;
    },
  };
}
