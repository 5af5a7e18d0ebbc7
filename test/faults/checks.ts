/** Every token, checked by every consumer, at once and again and again until its end; and what it means if one refuses it. */

import type { VerificationError } from "../../src/verifier/errors.ts";
import type { Verifier } from "../../src/verifier/verifier.ts";
import { type Consumer, withMadeUpKey } from "./consumers.ts";
import type { Front } from "./front.ts";
import { createHoldOff } from "./hold-off.ts";
import type { createJudge } from "./judge.ts";
import type { Ledger, TokenNote } from "./ledger.ts";
import type { ProcessorWaits } from "./processor-waits.ts";
import type { SeededRandom } from "./seeded-random.ts";
import type { StormyFleet } from "./stormy-fleet.ts";

export interface Checks {
  /** A token was just issued. */
  check(note: TokenNote): void;
  /** Every token that is still good, or was revoked, once more; then no more. */
  stop(): Promise<void>;
  abandon(): void;
}

/** Before its end, so that no verification comes to it. */
const marginMs = 1500;
/** Our verifier's staleness bound; and within how long it must know where its stream comes from a fit instance. */
export const maxStalenessMs = 10_000;
const boundMs = 1000;
/** An unknown kid is remembered for 2 s, and the whole set asked for once a second. */
export const ourVerifier = { name: "keyfleet/verifier", staleMs: 3000 };
const everyMs = 400;
const againEach = 6;

export function createChecks(deps: {
  readonly consumers: readonly Consumer[];
  readonly verifier: Verifier;
  readonly front: Front;
  readonly fleet: StormyFleet;
  readonly ledger: Ledger;
  readonly random: SeededRandom;
  readonly judge: ReturnType<typeof createJudge>;
  readonly waits: ProcessorWaits;
}): Checks {
  const { consumers, verifier, front, fleet, ledger, random, judge, waits } = deps;
  const underWay = new Set<Promise<void>>();
  const holdOffs = new Map(
    consumers.map(({ name, unanswered, staleMs }) => [name, createHoldOff(unanswered, staleMs)]),
  );

  function run(work: Promise<void>): void {
    underWay.add(work);
    work
      .catch((error: unknown) => ledger.violate("unavailable", `the storm itself failed: ${String(error)}`))
      .finally(() => underWay.delete(work));
  }

  async function refused(
    { name, staleMs }: Pick<Consumer, "name" | "staleMs">,
    note: TokenNote,
    startedAtMs: number,
    error: unknown,
  ) {
    const endedAtMs = Date.now();
    const isExcused = holdOffs.get(name)?.excuses(String(error), endedAtMs) ?? false;
    if (endedAtMs > note.expiresAtMs - marginMs) return;
    if (isExcused) {
      ledger.count(`${name}: rejections, not answered in its own time`);
      return;
    }
    const { verdict, why } = await judge({ note, staleMs, startedAtMs, endedAtMs });
    ledger.count(`${name}: rejections, ${verdict}`);
    if (verdict === "false") ledger.violate("false rejection", `by ${name}: ${String(error)}: ${why}`);
  }

  /** What is revoked by Keyfleet stays good for those who do not follow it, but for a key that is gone. */
  async function checkBy(consumer: Consumer, note: TokenNote): Promise<void> {
    const startedAtMs = Date.now();
    try {
      await consumer.verify(note.token);
      ledger.count(`${consumer.name}: verifications`);
    } catch (error) {
      await refused(consumer, note, startedAtMs, error);
    }
  }

  async function checkByVerifier(note: TokenNote): Promise<void> {
    const startedAtMs = Date.now();
    const streaming = front.streaming();
    const code = await verifier.verify(note.token).then(
      () => "accepted",
      (error: VerificationError) => (error.isUnavailable ? "unavailable" : error.code),
    );
    if (code === "unavailable") {
      ledger.count("keyfleet/verifier: could not judge");
      // From one stream that brings nothing it goes to the next: nobody can have served it.
      const sinceMs = startedAtMs - maxStalenessMs - boundMs;
      const serving = fleet.serving();
      const isWellServed =
        serving.length > 0 && serving.every((member) => member.wasFit(sinceMs, Date.now()));
      if (isWellServed) ledger.violate("unavailable", `to keyfleet/verifier, by ${streaming?.member.name}`);
      return;
    }
    ledger.count(`keyfleet/verifier: ${code === "accepted" ? "verifications" : "refusals"}`);
    if (code === "accepted" && note.endedAtMs !== undefined) {
      const { endedAtMs } = note;
      const isPrompt =
        streaming !== undefined &&
        streaming.sinceMs < endedAtMs &&
        streaming.member.wasFit(endedAtMs - 4000, Date.now()) &&
        front.streaming()?.sinceMs === streaming.sinceMs;
      const lateMs = startedAtMs - endedAtMs;
      const waitedMs = (pid: number | undefined) => waits.waitedMs(pid, endedAtMs, startedAtMs);
      // On its way to the verifier it passes Postgres besides, which waits as the instance does.
      const busyMs = waitedMs(process.pid) + 2 * waitedMs(streaming?.member.instance.process.pid);
      if (lateMs > busyMs + (isPrompt ? boundMs : maxStalenessMs + boundMs))
        ledger.violate(
          "false acceptance",
          `by keyfleet/verifier, ${lateMs} ms after the revocation was answered (${Math.round(busyMs)} ms busy), by ${streaming?.member.name}: ${note.jti}`,
        );
    }
    if (code !== "accepted" && note.endingAtMs === undefined)
      await refused(ourVerifier, note, startedAtMs, code);
  }

  async function checkByAll(note: TokenNote): Promise<void> {
    if (note.expiresAtMs - marginMs < Date.now()) return;
    await Promise.all([checkByVerifier(note), ...consumers.map((consumer) => checkBy(consumer, note))]);
  }

  /** Somebody tries made-up keys: it makes consumers read the JWKS at any moment, and then hold off from it. */
  async function tryMadeUp(note: TokenNote): Promise<void> {
    const madeUp = withMadeUpKey(note.token);
    for (const { name, verify } of [...consumers, { name: "keyfleet/verifier", verify: verifier.verify }]) {
      const isAccepted = await verify(madeUp).then(
        () => true,
        () => false,
      );
      if (isAccepted) ledger.violate("false acceptance", `of a made-up key, by ${name}`);
    }
  }

  const timer = setInterval(() => {
    const tokens = ledger.tokens();
    for (let count = 0; count < againEach; count += 1) {
      const note = random.pick(tokens);
      if (note !== undefined) run(checkByAll(note));
    }
    // Whether revocations are known is asked more often, of those that are new above all.
    const ended = tokens.filter(({ endedAtMs }) => endedAtMs !== undefined);
    for (const note of ended.slice(-10)) run(checkByVerifier(note));
    const note = random.pick(tokens);
    if (note !== undefined && random.next() < 0.15) run(tryMadeUp(note));
    ledger.count("instance seconds", (fleet.serving().length * everyMs) / 1000);
  }, everyMs);

  return {
    check: (note) => run(checkByAll(note)),
    abandon: () => clearInterval(timer),
    async stop() {
      clearInterval(timer);
      await Promise.all(underWay);
      for (const note of ledger.tokens()) await checkByAll(note);
    },
  };
}
