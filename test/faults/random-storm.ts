/** A sequence of faults by chance, which its seed repeats as far as the fleet is as it was. */

import { setTimeout as pause } from "node:timers/promises";
import type { Faults, NetworkFault } from "./faults.ts";
import type { Storm } from "./storm.ts";

interface Choice {
  readonly weight: number;
  /** Of those that serve: fewer would end the fleet, more would be too many for the machine. */
  readonly fits?: (serving: number) => boolean;
  /** `alone`: nothing else begins before it is over. */
  readonly alone?: boolean;
  run(faults: Faults): Promise<void>;
}

const leastServing = 2;
const mostServing = 7;

/** `keyLifeMs`: longer than a key is current. Resolves when all that was begun is over. */
export async function rage(storm: Storm, options: { forMs: number; keyLifeMs: number }): Promise<void> {
  const { fleet, faults, random, ledger } = storm;
  const { between } = random;
  const networkFault = () => random.pick<NetworkFault>(["hang", "refuse", "half-open"]) ?? "hang";
  const canLose = (serving: number) => serving > leastServing;
  const choices: readonly Choice[] = [
    { weight: 10, fits: (serving) => serving < mostServing, run: (f) => f.start() },
    { weight: 5, fits: canLose, run: (f) => f.terminate() },
    { weight: 4, fits: canLose, run: (f) => f.kill() },
    { weight: 6, run: (f) => f.pause(between(500, 4000)) },
    { weight: 2, fits: (serving) => serving > 3, run: (f) => f.pause(options.keyLifeMs) },
    { weight: 8, run: (f) => f.networkOfOne(networkFault(), between(500, 6000)) },
    { weight: 2, run: (f) => f.networkOfOne(networkFault(), between(15_000, 25_000)) },
    { weight: 3, alone: true, run: (f) => f.networkOfAll(networkFault(), between(500, 4000)) },
    { weight: 1, alone: true, run: (f) => f.networkOfAll("hang", between(15_000, 20_000)) },
    { weight: 4, run: (f) => f.cutConnections() },
    { weight: 4, run: (f) => f.delay(between(20, 150), between(1000, 6000)) },
    { weight: 3, run: (f) => f.loseNotifications(between(2000, 10_000), "one") },
    { weight: 1, run: (f) => f.loseNotifications(between(2000, 5000), "all") },
    { weight: 4, run: (f) => f.terminateBackends("keyfleet-listen") },
    { weight: 2, run: (f) => f.terminateBackends("keyfleet%") },
    { weight: 2, alone: true, run: (f) => f.restartDatabase("stop") },
    { weight: 2, alone: true, run: (f) => f.restartDatabase("crash") },
    { weight: 2, run: (f) => f.revokeKeys() },
    { weight: 1, fits: (serving) => serving < 5, run: (f) => f.replaceAll() },
    { weight: 1, run: (f) => f.scaleTo(8) },
    { weight: 1, run: (f) => f.scaleTo(1) },
  ];
  const underWay = new Set<Promise<void>>();

  function choose(): Choice | undefined {
    const serving = fleet.serving().length;
    const fitting = choices.filter(({ fits }) => fits?.(serving) ?? true);
    let left = random.next() * fitting.reduce((sum, { weight }) => sum + weight, 0);
    return fitting.find(({ weight }) => {
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
    const choice = choose();
    if (choice?.alone) await choice.run(faults);
    else if (choice !== undefined) begin(choice.run(faults));
    if (fleet.serving().length < leastServing) begin(faults.start());
    ledger.count("faults");
    await pause(between(500, 4000));
  }
  await Promise.all(underWay);
}
