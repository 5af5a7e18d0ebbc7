/** What an instance does unasked: follow the fleet, rotate its keys, show signs of life, tidy up. */

import { createTask } from "node-cron";
import { minuteMs } from "./clock.ts";
import type { FleetSync } from "./fleet/fleet-sync.ts";
import { heartbeatEveryMs, type Instance, type InstanceStore } from "./fleet/instance.ts";
import type { KeyRing } from "./keys/key-ring.ts";
import type { KeyRotation } from "./keys/key-rotation.ts";
import type { Logger } from "./logger.ts";
import { createOutcomeReporter, type OutcomeReporter } from "./report.ts";

export interface Background {
  /** Resolves when the first keys are published and usable; retries until then, whatever fails. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

export interface BackgroundOptions {
  readonly instance: Instance;
  readonly instances: InstanceStore;
  readonly sync: FleetSync;
  readonly rotation: KeyRotation;
  readonly ring: KeyRing;
  readonly logger: Logger;
  migrate(): Promise<void>;
  prune(): Promise<void>;
}

const rotationEveryMs = 250;
const retryEveryMs = 500;
const pruneSchedule = "*/5 * * * *";

export function createBackground(options: BackgroundOptions): Background {
  const { instance, instances, sync, rotation, ring, logger } = options;
  const loops: Loop[] = [];
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
    if (!(await instances.heartbeat(instance.id))) await instances.register(instance);
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
      loops.push(startLoop(heartbeatEveryMs, beat, createOutcomeReporter(logger, "heartbeat")));
      await pruning.start();
      while (!stopped && !ring.canSign()) await pause(20);
    },
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
  stop(): Promise<void>;
}

/** Runs `work` again and again, `everyMs` after each end; `report` hears every failure, and every success. */
function startLoop(everyMs: number, work: () => Promise<void>, report: OutcomeReporter): Loop {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let running = run();

  async function run(): Promise<void> {
    await work().then(() => report(), report);
    if (!stopped) {
      timer = setTimeout(() => {
        running = run();
      }, everyMs);
    }
  }

  return {
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await running;
    },
  };
}
