/** One instance: the only place where stores, domain and handlers meet. */

import type { RequestListener } from "node:http";
import { createAuthenticate } from "./accounts/authenticate.ts";
import { createLoginThrottle } from "./accounts/login-throttle.ts";
import { createPasswordHasher, type PasswordHasher } from "./accounts/password-hasher.ts";
import { secondMs } from "./clock.ts";
import type { Config } from "./config.ts";
import { createAddressFilter } from "./http/address.ts";
import { createApplication } from "./http/application.ts";
import type { HealthSource } from "./http/health.ts";
import type { LoginDependencies } from "./http/login.ts";
import { metricsEndpoint } from "./http/metrics-endpoint.ts";
import { createPublishedDocuments } from "./http/published-documents.ts";
import { documentsInFrontOf } from "./http/serve-document.ts";
import { listen } from "./http/server.ts";
import { type FleetMembership, type FleetOptions, joinFleet } from "./join-fleet.ts";
import { createMetrics, type Metrics } from "./metrics.ts";
import { createAccountStore } from "./postgres/accounts.ts";
import { createAttemptCounters } from "./postgres/login-attempts.ts";
import { isDatabaseAway } from "./postgres/pool.ts";
import { createSessionStore } from "./postgres/sessions.ts";
import { createStartSession } from "./sessions/start-session.ts";

export interface AppOptions extends FleetOptions {
  /** Where `accounts/password-worker` lies as JavaScript: a thread is given as built. */
  readonly passwordWorkerUrl: URL;
}

export interface App {
  readonly instanceId: string;
  readonly port: number;
  readonly metricsPort: number;
  readonly issuer: string;
  /** Resolves when this instance can issue tokens. */
  readonly ready: Promise<void>;
  /** Off the balancer for `drainMs`, then no more requests, then the keys retire; never throws. */
  stop(drainMs: number): Promise<void>;
}

const requestsEndWithinMs = 10 * secondMs;

/** Listens at once, and becomes ready when the database is there. Throws where a port is taken. */
export async function startApp(options: AppOptions): Promise<App> {
  const { config, logger } = options;
  const metrics = createMetrics();
  let answer: RequestListener = (_request, response) => response.destroy();
  const server = await listen((request, response) => answer(request, response), config.host, config.port);
  const issuer = config.issuer ?? `http://localhost:${server.port}`;
  const fleet = joinFleet(options, metrics);
  const hasher = createPasswordHasher({
    workerUrl: options.passwordWorkerUrl,
    cost: config.bcryptCost,
    threads: config.hashWorkers,
    queueLimit: config.hashQueue,
  });
  let draining = false;
  const documents = createPublishedDocuments({
    issuer,
    alg: config.signingAlg,
    jwksMaxAgeSeconds: config.jwksMaxAgeMs / secondMs,
    directory: fleet.directory,
  });
  const application = createApplication({
    logger,
    metrics,
    documents,
    health: healthOf(fleet, config, () => draining),
    login: wireLogin(options, metrics, fleet, hasher, issuer),
    trustedProxies: config.trustProxy,
    corsOrigins: config.corsOrigins,
    isUnavailable: isDatabaseAway,
  });
  answer = documentsInFrontOf(application, documents, metrics);
  const refreshGauges = () => {
    metrics.passwordQueue.set(hasher.queueLength());
    fleet.refreshGauges();
  };
  const metricsServer = await listen(
    metricsEndpoint(metrics, refreshGauges),
    config.host,
    config.metricsPort,
  );

  return {
    instanceId: fleet.issuing.instanceId,
    port: server.port,
    metricsPort: metricsServer.port,
    issuer,
    ready: fleet.start(),
    async stop(drainMs) {
      draining = true;
      logger.info({ drain_ms: drainMs }, "draining");
      await new Promise((resolve) => setTimeout(resolve, drainMs));
      await server.close(requestsEndWithinMs);
      await fleet.stop();
      await hasher.close();
      await metricsServer.close(secondMs);
      logger.info("stopped");
    },
  };
}

function healthOf(fleet: FleetMembership, config: Config, isDraining: () => boolean): HealthSource {
  const { directory, sync, clock, ring } = fleet;
  const syncIsLateMs = 2 * secondMs + 2 * config.fleetSyncIntervalMs;
  return {
    readiness: () => ({ keys_loaded: directory.isLoaded(), not_draining: !isDraining() }),
    issuing: () => ({
      database: sync.ageMs() < syncIsLateMs,
      clock: clock.isSteady(),
      signing_key: ring.canSign(),
    }),
  };
}

function wireLogin(
  { config, logger, secrets }: AppOptions,
  metrics: Metrics,
  fleet: FleetMembership,
  hasher: PasswordHasher,
  issuer: string,
): LoginDependencies {
  const limits = { attempts: config.loginAttempts, windowMs: config.loginWindowMs };
  const { refreshTokenTtlMs, sessionTtlMs } = config;
  return {
    authenticate: createAuthenticate({
      store: createAccountStore(fleet.pool),
      secrets,
      throttle: createLoginThrottle(createAttemptCounters(fleet.pool, limits), secrets),
      hasher,
      onForgedAccount(accountId) {
        metrics.forgedAccounts.inc();
        logger.error(
          { account_id: accountId },
          "an account's row was not written by Keyfleet: taken as unknown",
        );
      },
      onUpgradeFailed: (error) => logger.warn({ err: error }, "a better password hash could not be stored"),
    }),
    startSession: createStartSession({
      store: createSessionStore(fleet.pool, fleet.issuing),
      secrets,
      clock: fleet.clock,
      signer: fleet.ring,
      settings: { ...fleet.issuing, issuer, refreshTokenTtlMs, sessionTtlMs },
      onIssued: ({ mature }) => metrics.tokensIssued.inc({ key: mature ? "mature" : "immature" }),
    }),
    audiences: allowedAudiences(config, issuer),
    isIssueAddress: createAddressFilter(config.issueAllowedCidrs),
    onOutcome: (outcome) => metrics.logins.inc({ outcome }),
  };
}

/** The default first; the issuer itself is always one. */
function allowedAudiences(config: Config, issuer: string): readonly string[] {
  return [...new Set([...config.audiences, issuer])];
}
