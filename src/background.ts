/** What an instance does unasked: follow the fleet, rotate its keys, show signs of life, tidy up. */

import { createTask } from "node-cron";
import { minuteMs, secondMs } from "./clock.ts";
import type { FleetSync } from "./fleet/fleet-sync.ts";
import type { Heartbeat } from "./fleet/heartbeat.ts";
import { type BeatOutcome, heartbeatEveryMs, type Instance, type InstanceStore } from "./fleet/instance.ts";
import type { KeyRotation } from "./keys/key-rotation.ts";
import type { Logger } from "./logger.ts";
import { createOutcomeReporter, type OutcomeReporter } from "./report.ts";

export interface Background {
  /** Resolves when a token can be issued; retries until then, whatever fails. */
  start(): Promise<void>;
  /** A sign of life now: something that the others should know has changed. */
  beat(): void;
  stop(): Promise<void>;
}

export interface BackgroundOptions {
  readonly instance: Instance;
  readonly instances: InstanceStore;
  readonly sync: FleetSync;
  readonly rotation: KeyRotation;
  readonly heartbeat: Heartbeat;
  readonly logger: Logger;
  canIssue(): Promise<boolean>;
  migrate(): Promise<void>;
  prune(): Promise<void>;
  onLost(instanceIds: readonly string[]): void;
  onBeat(outcome: Exclude<BeatOutcome, "unknown">): void;
  /** Another process runs under this instance's id, or found this one doing so. */
  onEnded(why: "duplicated" | "stopped"): void;
}

const rotationEveryMs = 250;
const retryEveryMs = 500;
/** A sign of life that failed is not put off until the next is due: three that are missing are silence. */
const retryAfterFailureMs = secondMs;
const lookForLostEveryMs = 10 * secondMs;
const canIssueCheckMs = 20;
const pruneSchedule = "*/5 * * * *";

export function createBackground(options: BackgroundOptions): Background {
  const { instance, instances, sync, rotation, heartbeat, logger } = options;
  const loops: Loop[] = [];
  let beating: Loop | undefined;
  let stopped = false;

  /** Tries until it works: a database that is not there yet is no reason to end. */
  async function untilDone(what: string, work: () => Promise<void>): Promise<void> {
    for (let failures = 0; !stopped; failures += 1) {
      try {
        return await work();
      } catch (error) {
        if (failures === 0) logger.warn({ err: error }, `${what}: trying again until it works`);
        await pause(retryEveryMs);
      }
    }
  }

  async function beat(): Promise<void> {
    const outcome = await heartbeat.beat();
    options.onBeat(outcome);
    if (outcome === "duplicated" || outcome === "stopped") options.onEnded(outcome);
  }

  async function lookForLost(): Promise<void> {
    const lost = await instances.retireLost(instance.id);
    if (lost.length > 0) options.onLost(lost);
  }

  const reportPruning = createOutcomeReporter(logger, "pruning");
  const pruning = createTask(
    pruneSchedule,
    () => options.prune().then(() => reportPruning(), reportPruning),
    {
      timezone: "UTC",
      noOverlap: true,
      maxRandomDelay: minuteMs,
      unref: true,
    },
  );

  return {
    async start() {
      await untilDone("migrating", options.migrate);
      await untilDone("registering", () => instances.register(instance));
      // The first reading opens its connection; the second is exact.
      await untilDone("reading the fleet's state", async () => {
        await sync.syncOnce();
        await sync.syncOnce();
      });
      await untilDone("publishing the first keys", () => rotation.tick());
      if (stopped) return;
      sync.start();
      loops.push(
        startLoop(rotationEveryMs, () => rotation.tick(), createOutcomeReporter(logger, "rotating keys")),
      );
      beating = startLoop(heartbeatEveryMs, beat, createOutcomeReporter(logger, "heartbeat"));
      const reportLooking = createOutcomeReporter(logger, "looking for lost instances");
      loops.push(beating, startLoop(lookForLostEveryMs, lookForLost, reportLooking));
      await pruning.start();
      while (!stopped && !(await options.canIssue())) await pause(canIssueCheckMs);
    },
    beat: () => beating?.runNow(),
    async stop() {
      stopped = true;
      await pruning.destroy();
      await rotation.stop();
      await Promise.all(loops.map((loop) => loop.stop()));
      await sync.stop();
    },
  };
}

function pause(durationMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, durationMs));
}

interface Loop {
  /** Now, or once more after the run that is under way. */
  runNow(): void;
  stop(): Promise<void>;
}

/** Runs `work` again and again, `everyMs` after each end, or sooner where it failed; `report` hears of every end. */
function startLoop(everyMs: number, work: () => Promise<void>, report: OutcomeReporter): Loop {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let isRunning = false;
  let isWanted = false;
  let running = run();

  async function run(): Promise<void> {
    isRunning = true;
    isWanted = false;
    const pauseMs = await work().then(
      () => {
        report();
        return everyMs;
      },
      (error: unknown) => {
        report(error);
        return Math.min(everyMs, retryAfterFailureMs);
      },
    );
    isRunning = false;
    if (!stopped) schedule(isWanted ? 0 : pauseMs);
  }

  function schedule(inMs: number): void {
    clearTimeout(timer);
    timer = setTimeout(() => {
      running = run();
    }, inMs);
  }

  return {
    runNow() {
      if (stopped) return;
      if (isRunning) isWanted = true;
      else schedule(0);
    },
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await running;
    },
  };
}
