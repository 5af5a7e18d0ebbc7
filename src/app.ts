/** One instance: listening sockets, its part in the fleet, its services, and how they begin and end. */

import type { RequestListener } from "node:http";
import { createPasswordHasher } from "./accounts/password-hasher.ts";
import { secondMs } from "./clock.ts";
import type { Config } from "./config.ts";
import { createApplication } from "./http/application.ts";
import type { HealthSource } from "./http/health.ts";
import { metricsEndpoint } from "./http/metrics-endpoint.ts";
import { createPublishedDocuments } from "./http/published-documents.ts";
import { createRevocationStream } from "./http/revocations.ts";
import { documentsInFrontOf } from "./http/serve-document.ts";
import { listen } from "./http/server.ts";
import { type FleetMembership, type FleetOptions, joinFleet } from "./join-fleet.ts";
import type { Metrics } from "./metrics.ts";
import { isDatabaseAway, isSchemaMissing } from "./postgres/pool.ts";
import { createServices } from "./services.ts";

export interface AppOptions extends FleetOptions {
  /** Where `accounts/password-worker` lies as JavaScript: a thread is given as built. */
  readonly passwordWorkerUrl: URL;
  readonly metrics: Metrics;
}

export interface App {
  readonly instanceId: string;
  readonly port: number;
  readonly metricsPort: number;
  readonly issuer: string;
  /** Resolves when this instance can issue tokens. */
  readonly ready: Promise<void>;
  /** Resolves where another process runs under this instance's id: this one has to stop, and another to start. */
  readonly ended: Promise<void>;
  /** Off the balancer for `drainMs`, then no more requests; lends for `lingerMs`; then the keys retire. Never throws. */
  stop(times: { readonly drainMs: number; readonly lingerMs: number }): Promise<void>;
}

const requestsEndWithinMs = 10 * secondMs;
const streamsPerAddress = 50;

/** Listens at once, and becomes ready when the database is there. Throws where a port is taken. */
export async function startApp(options: AppOptions): Promise<App> {
  const { config, logger, secrets, metrics } = options;
  let answer: RequestListener = (_request, response) => response.destroy();
  const server = await listen((request, response) => answer(request, response), config.host, config.port);
  const issuer = config.issuer ?? `http://localhost:${server.port}`;
  const fleet = joinFleet(options, issuer, metrics);
  const { directory, revocations } = fleet;
  const hasher = createPasswordHasher({
    workerUrl: options.passwordWorkerUrl,
    cost: config.bcryptCost,
    threads: config.hashWorkers,
    isEager: true,
    queueLimit: config.hashQueue,
  });
  const services = createServices({ config, secrets, logger, metrics, fleet, hasher, issuer });
  const revocationStream = createRevocationStream({
    log: revocations,
    limit: config.streamLimit,
    limitPerAddress: streamsPerAddress,
    onDropped: () => metrics.streamDrops.inc(),
  });
  const documents = createPublishedDocuments({
    issuer,
    alg: config.signingAlg,
    jwksMaxAgeSeconds: Math.floor(config.jwksMaxAgeMs / secondMs),
    directory,
  });
  let draining = false;
  const application = createApplication({
    ...services,
    logger,
    metrics,
    documents,
    health: healthOf(fleet, config, () => draining),
    revocations,
    revocationStream,
    trustedProxies: config.trustProxy,
    corsOrigins: config.corsOrigins,
    isUnavailable: (error) => isDatabaseAway(error) || isSchemaMissing(error),
  });
  answer = documentsInFrontOf(application, documents, metrics);
  const refreshGauges = () => {
    metrics.passwordQueue.set(hasher.queueLength());
    metrics.streamConsumers.set(revocationStream.consumers());
    fleet.refreshGauges();
  };
  const metricsServer = await listen(
    metricsEndpoint(metrics, refreshGauges),
    config.host,
    config.metricsPort,
  );

  return {
    instanceId: fleet.instanceId,
    port: server.port,
    metricsPort: metricsServer.port,
    issuer,
    ready: fleet.start(),
    ended: fleet.ended,
    async stop({ drainMs, lingerMs }) {
      draining = true;
      logger.info({ drain_ms: drainMs }, "draining");
      revocationStream.close();
      await new Promise((resolve) => setTimeout(resolve, drainMs));
      await server.close(requestsEndWithinMs);
      await services.close();
      await fleet.linger(lingerMs);
      await fleet.stop();
      await hasher.close();
      await metricsServer.close(secondMs);
      logger.info("stopped");
    },
  };
}

function healthOf(fleet: FleetMembership, config: Config, isDraining: () => boolean): HealthSource {
  const { directory, revocations, sync, clock } = fleet;
  const syncIsLateMs = 2 * secondMs + 2 * config.fleetSyncIntervalMs;
  return {
    readiness: () => ({
      keys_loaded: directory.isLoaded(),
      revocations_loaded: revocations.isLoaded(),
      not_draining: !isDraining(),
    }),
    issuing: async () => ({
      database: sync.ageMs() < syncIsLateMs,
      clock: clock.isSteady(),
      signing_key: await fleet.canIssue(),
    }),
  };
}
