/** `keyfleet serve`: one instance in this process, or several, each a process of its own. */

import { type Command, InvalidArgumentError } from "commander";
import { startApp } from "../app.ts";
import { type Config, ConfigError, type Environment } from "../config.ts";
import { createDemoAccount } from "../development.ts";
import { secureHeapProblem } from "../keys/secure-heap.ts";
import { createLogger } from "../logger.ts";
import { migrate } from "../postgres/migrate.ts";
import { commandTimeouts, createPool, endPool } from "../postgres/pool.ts";
import { printBanner } from "./banner.ts";
import { serveFleet } from "./serve-fleet.ts";
import type { ServeMessage, Serving } from "./serving.ts";
import { shutdownSignal } from "./shutdown-signal.ts";
import {
  type Database,
  loadConfig,
  openDatabase,
  passwordWorkerUrl,
  secretsOf,
  withAccounts,
} from "./workspace.ts";

export function addServeCommand(program: Command, environment: Environment): void {
  program
    .command("serve")
    .description("serves until SIGTERM; a second signal ends it at once")
    .option("--instances <count>", "so many processes on consecutive ports", readCount, 1)
    .option("--no-banner", "does not print where it listens and how to log in")
    .action(async ({ instances, banner }: { instances: number; banner: boolean }) => {
      const { config, warnings } = loadConfig(environment);
      const logger = createLogger({ level: config.logLevel, readable: process.stdout.isTTY });
      for (const warning of warnings) logger.warn(warning);
      const database = await openDatabase(config, environment, (message) => logger.debug(message));
      try {
        const demoPassword = database.embedded ? await prepareDevelopment(config, database) : undefined;
        const showBanner = banner && !config.production;
        const serving: Serving = { config, environment, database, demoPassword, showBanner, logger };
        if (instances > 1) await serveFleet(serving, instances);
        else await serveOne(serving);
      } finally {
        await database.stop();
      }
    });
}

function readCount(text: string): number {
  const count = /^\d{1,2}$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > 64) throw new InvalidArgumentError("It must be a number from 1 to 64.");
  return count;
}

/** The schema and the demo account, whose password is returned the first time. */
async function prepareDevelopment(config: Config, database: Database): Promise<string | undefined> {
  await migrate({ url: database.listenUrl });
  const pool = createPool({ url: database.url, max: 2, timeouts: commandTimeouts, onError: () => undefined });
  try {
    return await withAccounts(config, secretsOf(config), pool, createDemoAccount);
  } finally {
    await endPool(pool);
  }
}

async function serveOne(serving: Serving): Promise<void> {
  const { config, environment, database, logger } = serving;
  const heapProblem = secureHeapProblem();
  if (heapProblem !== undefined && config.production) throw new ConfigError([`secure heap: ${heapProblem}`]);
  if (heapProblem !== undefined)
    logger.warn({ reason: heapProblem }, "signing keys are not protected in memory");
  // Without a listener of ours, this signal opens Node's inspector, through which keys could be read.
  process.on("SIGUSR1", () => logger.warn("SIGUSR1 is ignored"));

  const signal = shutdownSignal(logger, { underNpm: environment["npm_lifecycle_event"] !== undefined });
  const app = await startApp({
    config,
    logger,
    passwordWorkerUrl,
    secrets: secretsOf(config),
    databaseUrl: database.url,
    databaseListenUrl: database.listenUrl,
  });
  const { port, metricsPort, issuer, instanceId } = app;
  logger.info({ port, metrics_port: metricsPort, issuer, instance_id: instanceId }, "listening");
  tellParent({ type: "listening", port, metricsPort, issuer });
  await Promise.race([app.ready, signal]);
  if (!signal.received()) {
    logger.info("ready to issue tokens");
    tellParent({ type: "ready", instanceId });
    if (serving.showBanner) printBanner([{ port, metricsPort, issuer }], serving.demoPassword);
  }
  await signal;
  await app.stop(config.shutdownDrainMs);
}

function tellParent(message: ServeMessage): void {
  process.send?.(message);
}
