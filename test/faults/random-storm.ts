/** A sequence of faults by chance, which its seed repeats as far as the fleet is as it was. */

import { setTimeout as pause } from "node:timers/promises";
import { countOf, type FaultKind, type Faults, networkFaults } from "./faults.ts";
import { killPoints } from "./kill-points.ts";
import type { Storm } from "./storm.ts";

interface Choice {
  readonly kind: FaultKind;
  readonly weight: number;
  /** Of those that serve: fewer would end the fleet, more would be too many for the machine. */
  readonly fits?: (serving: number) => boolean;
  /** `alone`: nothing else begins before it is over. */
  readonly alone?: boolean;
  run(faults: Faults): Promise<void>;
}

const choice = (
  kind: FaultKind,
  weight: number,
  run: Choice["run"],
  conditions: Pick<Choice, "fits" | "alone"> = {},
): Choice => ({ kind, weight, run, ...conditions });

const leastServing = 2;
const mostServing = 7;

/** `keyLifeMs`: longer than a key is current. Resolves when all that was begun is over. */
export async function rage(storm: Storm, options: { forMs: number; keyLifeMs: number }): Promise<void> {
  const { fleet, faults, random, ledger } = storm;
  const { between } = random;
  const canLose = (serving: number) => serving > leastServing;
  const choices: readonly Choice[] = [
    choice("start", 10, (f) => f.start(), { fits: (serving) => serving < mostServing }),
    choice("terminate", 5, (f) => f.terminate(), { fits: canLose }),
    choice("kill", 2, (f) => f.kill(), { fits: canLose }),
    ...[...killPoints.keys()].map((point) =>
      choice(`kill ${point}`, 0.15, (f) => f.killAt(point), { fits: canLose }),
    ),
    choice("pause", 6, (f) => f.pause(between(500, 4000))),
    choice("pause", 2, (f) => f.pause(options.keyLifeMs), { fits: (serving) => serving > 3 }),
    ...networkFaults.flatMap((how) => [
      choice(`network of one: ${how}`, 3, (f) => f.networkOfOne(how, between(500, 6000))),
      choice(`network of one: ${how}`, 0.7, (f) => f.networkOfOne(how, between(15_000, 25_000))),
      choice(`network of all: ${how}`, 1, (f) => f.networkOfAll(how, between(500, 4000)), { alone: true }),
    ]),
    choice("network of all: hang", 1, (f) => f.networkOfAll("hang", between(15_000, 20_000)), {
      alone: true,
    }),
    choice("cut connections", 4, (f) => f.cutConnections()),
    choice("delay", 4, (f) => f.delay(between(20, 150), between(1000, 6000))),
    choice("lost notifications of one", 3, (f) => f.loseNotifications(between(2000, 10_000), "one")),
    choice("lost notifications of all", 1, (f) => f.loseNotifications(between(2000, 5000), "all")),
    choice("terminated keyfleet-listen", 4, (f) => f.terminateBackends("keyfleet-listen")),
    choice("terminated keyfleet%", 2, (f) => f.terminateBackends("keyfleet%")),
    choice("database stop", 2, (f) => f.restartDatabase("stop"), { alone: true }),
    choice("database crash", 2, (f) => f.restartDatabase("crash"), { alone: true }),
    choice("key revocation", 2, (f) => f.revokeKeys()),
    choice("replacement of all", 1, (f) => f.replaceAll(), { fits: (serving) => serving < 5 }),
    choice("migration", 1, (f) => f.migrate(), { fits: () => !ledger.counts().has(countOf("migration")) }),
    choice("scale", 1, (f) => f.scaleTo(8)),
    choice("scale", 1, (f) => f.scaleTo(1)),
  ];
  const underWay = new Set<Promise<void>>();

  function choose(missingFirst: boolean): Choice | undefined {
    const serving = fleet.serving().length;
    const fitting = choices.filter(({ fits }) => fits?.(serving) ?? true);
    const missing = fitting.filter(({ kind }) => missingFirst && !ledger.counts().has(countOf(kind)));
    const among = missing.length > 0 ? missing : fitting;
    let left = random.next() * among.reduce((sum, { weight }) => sum + weight, 0);
    return among.find(({ weight }) => {
      left -= weight;
      return left < 0;
    });
  }

  function begin(work: Promise<void>): void {
    const done = work.catch((error: unknown) =>
      ledger.violate("unavailable", `a fault failed: ${String(error)}`),
    );
    underWay.add(done);
    done.finally(() => underWay.delete(done));
  }

  for (const endsAtMs = Date.now() + options.forMs; Date.now() < endsAtMs; ) {
    // In the second half, now and then what chance has left out so far: all of it at once would kill every signer.
    const isSecondHalf = Date.now() > endsAtMs - options.forMs / 2;
    const chosen = choose(isSecondHalf && random.next() < 0.4);
    if (chosen?.alone) await chosen.run(faults);
    else if (chosen !== undefined) begin(chosen.run(faults));
    if (fleet.serving().length < leastServing) begin(faults.start());
    ledger.count("faults");
    await pause(between(500, 4000));
  }
  await Promise.all(underWay);
}
