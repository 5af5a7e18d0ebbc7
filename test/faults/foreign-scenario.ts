/**
 * What consumers in other languages make of a fleet that rotates, grows by an instance and loses a signer, each of them
 * twice: reading from the fleet, and from a front that shows keys only when they sign.
 */

import { randomBytes } from "node:crypto";
import { decodeJwt, decodeProtectedHeader } from "jose";
import { type LateJwksFront, startLateJwksFront } from "../interop/late-jwks-front.ts";
import { eventually } from "../support/accounts.ts";
import type { Settings } from "../support/instance.ts";
import type { ForeignConsumer, ForeignKind } from "./consumers/foreign-consumers.ts";
import { type ForeignFleet, startForeignFleet } from "./foreign-fleet.ts";
import { createHoldOff, type HoldOff } from "./hold-off.ts";

export interface Pace {
  readonly name: string;
  readonly settings: Settings;
  /** In place of each consumer's default; undefined: the defaults. */
  readonly cooldownMs: number | undefined;
  readonly kidsInEachAct: number;
  readonly pauseMs: number;
}

export interface Tally {
  readonly kind: ForeignKind;
  readonly consumer: ForeignConsumer;
  verifications: number;
  readonly holdOff: HoldOff;
  /** Of tokens that were valid. */
  readonly rejections: string[];
  madeUpKeysAccepted: number;
}

export interface Outcome {
  readonly issued: number;
  readonly borrowed: number;
  readonly signers: number;
  readonly withLead: readonly Tally[];
  readonly withoutLead: readonly Tally[];
  /** The counts, a line each. */
  readonly report: string;
}

/** Before its end, so that no verification of a valid token comes to it. */
const marginMs = 1500;
const issuedMetric = (key: string) => `keyfleet_access_tokens_issued_total{key="${key}"}`;

export async function runScenario(
  pace: Pace,
  kinds: readonly ForeignKind[],
  audience: string,
): Promise<Outcome> {
  const fleet = await startForeignFleet({ AUDIENCES: audience, MAX_SIGNERS: "2", ...pace.settings });
  let front: LateJwksFront | undefined;
  const tallies: Tally[] = [];
  try {
    const [leaving, staying] = [await fleet.start(), await fleet.start()];
    await fleet.start();
    front = await startLateJwksFront(new URL(`${staying.url}/.well-known/jwks.json`));
    const population = (jwksUrl: URL) =>
      kinds.map((kind): Tally => {
        const consumer = kind.start({ issuer: fleet.issuer, audience, jwksUrl }, pace.cooldownMs);
        const holdOff = createHoldOff(kind.unanswered, consumer.staleMs);
        return { kind, consumer, holdOff, verifications: 0, rejections: [], madeUpKeysAccepted: 0 };
      });
    const withLead = population(new URL(`${fleet.issuer}/.well-known/jwks.json`));
    const withoutLead = population(front.jwksUrl);
    tallies.push(...withLead, ...withoutLead);
    // Where no key is mature yet, an instance signs with a new one, which no cache can know.
    await eventually(async () => {
      await fleet.issue();
      return (await fleet.total(issuedMetric("mature"))) > 0;
    }, 120_000);

    const play = createPlay(pace, fleet, front, withLead, withoutLead);
    await play.until(() => play.kids.size >= pace.kidsInEachAct);
    await Promise.all([fleet.start(), play.until(() => play.kids.size >= 2 * pace.kidsInEachAct)]);
    const signersBefore = new Set((await fleet.owners()).values()).size;
    const isReplaced = async () => new Set((await fleet.owners()).values()).size > signersBefore;
    await Promise.all([fleet.kill(leaving), play.until(isReplaced)]);
    const kidsThen = play.kids.size;
    await play.until(() => play.kids.size >= kidsThen + pace.kidsInEachAct / 2);
    return await summarize(pace, fleet, play, withLead, withoutLead);
  } finally {
    await Promise.all(tallies.map(({ consumer }) => consumer.close()));
    await front?.close();
    await fleet.close();
  }
}

interface Play {
  readonly kids: ReadonlySet<string>;
  issued(): number;
  /** Has tokens issued, one after the other; each is verified at once, and some again shortly before their end. */
  until(isEnough: () => boolean | Promise<boolean>): Promise<void>;
}

function createPlay(
  pace: Pace,
  fleet: ForeignFleet,
  front: LateJwksFront,
  withLead: readonly Tally[],
  withoutLead: readonly Tally[],
): Play {
  const everybody = [...withLead, ...withoutLead];
  const kids = new Set<string>();
  /** Those that are not about to end, oldest first. */
  const tokens: string[] = [];
  let issued = 0;

  async function step(): Promise<void> {
    const token = await fleet.issue();
    const kid = String(decodeProtectedHeader(token).kid);
    issued += 1;
    kids.add(kid);
    front.show(kid);
    tokens.push(token);
    while (endMs(tokens[0] ?? token) - Date.now() < marginMs) tokens.shift();
    const oldest = tokens[0] ?? token;
    await Promise.all([
      ...everybody.map((tally) => verifyValid(tally, token)),
      ...withLead.map((tally) => verifyValid(tally, oldest)),
    ]);
    // Somebody tries made-up keys: it makes consumers read the JWKS at any moment, and then hold off from it.
    const madeUp = withAnotherKid(token);
    await Promise.all(everybody.map((tally) => tryMadeUp(tally, madeUp)));
  }

  return {
    kids,
    issued: () => issued,
    async until(isEnough) {
      while (!(await isEnough())) {
        await step();
        await new Promise((resolve) => setTimeout(resolve, pace.pauseMs));
      }
    },
  };
}

async function verifyValid(tally: Tally, token: string): Promise<void> {
  try {
    await tally.consumer.verify(token);
    tally.verifications += 1;
  } catch (error) {
    const { message } = error as Error;
    const nowMs = Date.now();
    const isExcused = tally.holdOff.excuses(message, nowMs);
    if (nowMs < endMs(token) && !isExcused) tally.rejections.push(message);
  }
}

async function tryMadeUp(tally: Tally, token: string): Promise<void> {
  const accepted = await tally.consumer.verify(token).then(
    () => true,
    () => false,
  );
  if (accepted) tally.madeUpKeysAccepted += 1;
}

function endMs(token: string): number {
  return (decodeJwt(token).exp ?? 0) * 1000;
}

function withAnotherKid(token: string): string {
  const header = { ...decodeProtectedHeader(token), kid: randomBytes(32).toString("base64url") };
  const [, ...rest] = token.split(".");
  return [Buffer.from(JSON.stringify(header)).toString("base64url"), ...rest].join(".");
}

async function summarize(
  pace: Pace,
  fleet: ForeignFleet,
  play: Play,
  withLead: readonly Tally[],
  withoutLead: readonly Tally[],
): Promise<Outcome> {
  const signers = new Set((await fleet.owners()).values()).size;
  const borrowed = await fleet.total(issuedMetric("borrowed"));
  const lines = (title: string, tallies: readonly Tally[]) =>
    tallies.map(
      ({ kind, consumer, verifications, rejections }) =>
        `${title}, ${kind.name} (reads again after ${consumer.staleMs} ms; by default ${kind.defaultCooldownMs}): ` +
        `${verifications} accepted, ${rejections.length} rejected`,
    );
  const report = [
    `${pace.name}: ${play.issued()} tokens, ${play.kids.size} kids of ${signers} signers, ${borrowed} borrowed signatures`,
    ...lines("with the lead", withLead),
    ...lines("without", withoutLead),
  ].join("\n");
  return { issued: play.issued(), borrowed, signers, withLead, withoutLead, report };
}
