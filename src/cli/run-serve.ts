/** What `keyfleet serve` does. */

import { type App, startApp } from "../app.ts";
import { type Config, ConfigError, type Environment } from "../config.ts";
import { createDemoAccount } from "../development.ts";
import { secureHeapProblem } from "../keys/secure-heap.ts";
import { createLogger } from "../logger.ts";
import { createMetrics } from "../metrics.ts";
import { createInstanceStore } from "../postgres/instances.ts";
import { migrate } from "../postgres/migrate.ts";
import { commandTimeouts, createPool, endPool } from "../postgres/pool.ts";
import { printBanner } from "./banner.ts";
import { serveFleet } from "./serve-fleet.ts";
import type { ServeMessage, Serving } from "./serving.ts";
import { type ShutdownSignal, shutdownSignal } from "./shutdown-signal.ts";
import {
  type Database,
  loadConfig,
  openDatabase,
  passwordWorkerUrl,
  secretsOf,
  withAccounts,
} from "./workspace.ts";

export interface ServeFlags {
  readonly instances: number;
  readonly banner: boolean;
}

export async function runServe(environment: Environment, { instances, banner }: ServeFlags): Promise<void> {
  const { config, warnings } = loadConfig(environment);
  const logger = createLogger({ level: config.logLevel, readable: process.stdout.isTTY });
  for (const warning of warnings) logger.warn(warning);
  const database = await openDatabase(config, environment, (message) => logger.debug(message));
  try {
    const demo = database.embedded ? { password: await prepareDevelopment(config, database) } : undefined;
    const showBanner = banner && !config.production;
    const serving: Serving = { config, environment, database, demo, showBanner, logger };
    if (instances > 1) await serveFleet(serving, instances);
    else await serveOne(serving);
  } finally {
    await database.stop();
  }
}

/** The schema and the demo account, whose password is returned the first time. */
async function prepareDevelopment(config: Config, database: Database): Promise<string | undefined> {
  await migrate({ url: database.listenUrl });
  const pool = createPool({ url: database.url, max: 2, timeouts: commandTimeouts, onError: () => undefined });
  try {
    // Whom a crash left in it: else their keys would be waited for.
    if (database.started) await createInstanceStore(pool).disbelieveBeats();
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
  // Of the process: with those of an instance that ended, nobody would see why it did.
  const metrics = createMetrics();
  let ports = { port: config.port, metricsPort: config.metricsPort };
  let showBanner = serving.showBanner;
  while (!signal.received()) {
    const app = await startApp({
      config: { ...config, ...ports },
      logger,
      metrics,
      passwordWorkerUrl,
      secrets: secretsOf(config),
      databaseUrl: database.url,
      databaseListenUrl: database.listenUrl,
    });
    await announce(app, serving, { until: signal, showBanner });
    // Another process under our id: whatever it knows of us, an instance that begins anew on these ports is another.
    await Promise.race([signal, app.ended]);
    const drainMs = signal.received() ? config.shutdownDrainMs : 0;
    await app.stop({ drainMs, lingerMs: signal.received() ? config.shutdownLingerMs : 0 });
    ports = { port: app.port, metricsPort: app.metricsPort };
    showBanner = false;
  }
}

/** Says where it listens, and, unless `until` comes first, that it is ready. */
async function announce(
  app: App,
  { logger, demo }: Serving,
  { until, showBanner }: { readonly until: ShutdownSignal; readonly showBanner: boolean },
): Promise<void> {
  const { port, metricsPort, issuer, instanceId } = app;
  logger.info({ port, metrics_port: metricsPort, issuer, instance_id: instanceId }, "listening");
  tellParent({ type: "listening", port, metricsPort, issuer });
  await Promise.race([app.ready, app.ended, until]);
  if (until.received()) return;
  logger.info("ready to issue tokens");
  tellParent({ type: "ready", instanceId });
  if (showBanner) printBanner([{ port, metricsPort, issuer }], demo);
}

function tellParent(message: ServeMessage): void {
  process.send?.(message);
}
