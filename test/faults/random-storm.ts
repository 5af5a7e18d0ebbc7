/** A sequence of faults by chance, which its seed repeats; whom each of them meets depends on who is there. */

import { setTimeout as pause } from "node:timers/promises";
import { countOf, type FaultKind, type Faults, networkFaults } from "./faults.ts";
import { killPoints } from "./kill-points.ts";
import { createSeededRandom, type SeededRandom } from "./seeded-random.ts";
import type { Storm } from "./storm.ts";

interface Choice {
  readonly kind: FaultKind;
  readonly weight: number;
  /** Of those that serve: fewer would end the fleet, more would be too many for the machine. */
  readonly fits?: (serving: number) => boolean;
  /** `alone`: nothing else begins before it is over. */
  readonly alone?: boolean;
  /** `between`: an amount by chance. */
  run(faults: Faults, between: SeededRandom["between"]): Promise<void>;
}

interface Planned extends Choice {
  readonly between: SeededRandom["between"];
  /** Until the next. */
  readonly pauseMs: number;
}

const choice = (
  kind: FaultKind,
  weight: number,
  run: Choice["run"],
  conditions: Pick<Choice, "fits" | "alone"> = {},
): Choice => ({ kind, weight, run, ...conditions });

const leastServing = 2;
const mostServing = 7;

const canLose = (serving: number) => serving > leastServing;

/** `keyLifeMs`: longer than a key is current. */
const choicesOf = (keyLifeMs: number): readonly Choice[] => [
  choice("start", 10, (f) => f.start(), { fits: (serving) => serving < mostServing }),
  choice("terminate", 5, (f) => f.terminate(), { fits: canLose }),
  choice("kill", 2, (f) => f.kill(), { fits: canLose }),
  ...[...killPoints.keys()].map((point) =>
    choice(`kill ${point}`, 0.3, (f) => f.killAt(point), { fits: canLose }),
  ),
  choice("pause", 6, (f, between) => f.pause(between(500, 4000))),
  choice("pause", 2, (f) => f.pause(keyLifeMs), { fits: (serving) => serving > 3 }),
  ...networkFaults.flatMap((how) => [
    choice(`network of one: ${how}`, 3, (f, between) => f.networkOfOne(how, between(500, 6000))),
    choice(`network of one: ${how}`, 0.7, (f, between) => f.networkOfOne(how, between(15_000, 25_000))),
    choice(`network of all: ${how}`, 1, (f, between) => f.networkOfAll(how, between(500, 4000)), {
      alone: true,
    }),
  ]),
  choice("network of all: hang", 1, (f, between) => f.networkOfAll("hang", between(15_000, 20_000)), {
    alone: true,
  }),
  choice("cut connections", 4, (f) => f.cutConnections()),
  choice("delay", 4, (f, between) => f.delay(between(20, 150), between(1000, 6000))),
  choice("lost notifications of one", 3, (f, between) => f.loseNotifications(between(2000, 10_000), "one")),
  choice("lost notifications of all", 1, (f, between) => f.loseNotifications(between(2000, 5000), "all")),
  choice("terminated keyfleet-listen", 4, (f) => f.terminateBackends("keyfleet-listen")),
  choice("terminated keyfleet%", 2, (f) => f.terminateBackends("keyfleet%")),
  choice("database stop", 2, (f) => f.restartDatabase("stop"), { alone: true }),
  choice("database crash", 2, (f) => f.restartDatabase("crash"), { alone: true }),
  choice("key revocation", 2, (f) => f.revokeKeys()),
  choice("replacement of all", 1, (f) => f.replaceAll(), { fits: (serving) => serving < 5 }),
  choice("migration", 1, (f) => f.migrate()),
  choice("scale", 1, (f) => f.scaleTo(8)),
  choice("scale", 1, (f) => f.scaleTo(1)),
];

/** Without an end. */
function* plan(random: SeededRandom, choices: readonly Choice[]): Generator<Planned, never> {
  const weights = choices.reduce((sum, { weight }) => sum + weight, 0);
  for (;;) {
    let left = random.next() * weights;
    const chosen = choices.find(({ weight }) => {
      left -= weight;
      return left < 0;
    }) as Choice;
    const { between } = createSeededRandom(random.next() * 2 ** 32);
    yield { ...chosen, between, pauseMs: random.between(500, 4000) };
  }
}

/** Resolves when all that was begun is over, and every kind of fault has been there. */
export async function rage(storm: Storm, options: { forMs: number; keyLifeMs: number }): Promise<void> {
  const { fleet, faults, random, ledger } = storm;
  const choices = choicesOf(options.keyLifeMs);
  const underWay = new Set<Promise<void>>();
  const waiting: Planned[] = [];
  const doesFit = ({ fits }: Choice) => fits?.(fleet.serving().length) ?? true;

  function begin(work: Promise<void>): void {
    const done = work.catch((error: unknown) =>
      ledger.violate("unavailable", `a fault failed: ${String(error)}`),
    );
    underWay.add(done);
    done.finally(() => underWay.delete(done));
  }

  const endsAtMs = Date.now() + options.forMs;
  for (const next of plan(random, choices)) {
    if (Date.now() > endsAtMs) break;
    // What does not fit when its turn comes waits until it does.
    waiting.push(next);
    const turn = waiting.findIndex(doesFit);
    const [fault] = turn === -1 ? [] : waiting.splice(turn, 1);
    if (fault?.alone) await fault.run(faults, fault.between);
    else if (fault !== undefined) begin(fault.run(faults, fault.between));
    if (fleet.serving().length < leastServing) begin(faults.start());
    ledger.count("faults");
    await pause(next.pauseMs);
  }
  await Promise.all(underWay);
  for (const choice of choices) {
    if (ledger.counts().has(countOf(choice.kind))) continue;
    while (!doesFit(choice) && fleet.serving().length < mostServing) await faults.start();
    await choice.run(faults, random.between);
    ledger.count("faults");
  }
}
