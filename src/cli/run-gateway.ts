/** What `keyfleet gateway` does. */

import type { Environment } from "../config.ts";
import { createGateway } from "../gateway/gateway.ts";
import { createGatewayMetrics } from "../gateway/gateway-metrics.ts";
import { listen } from "../http/server.ts";
import { createLogger } from "../logger.ts";
import { parseDurationMs } from "../protocol/duration.ts";
import { createVerifier } from "../verifier/index.ts";
import { shutdownSignal } from "./shutdown-signal.ts";
import { loadConfig } from "./workspace.ts";

export interface GatewayFlags {
  readonly issuer: string;
  readonly audience: string;
  readonly whenStale: "reject" | "accept";
  readonly maxStaleness: string;
  readonly host: string;
  readonly port: number;
}

const requestsEndWithinMs = 5000;

export async function runGateway(flags: GatewayFlags, environment: Environment): Promise<void> {
  const { config } = loadConfig({ LOG_LEVEL: environment["LOG_LEVEL"] });
  const logger = createLogger({ level: config.logLevel, readable: process.stdout.isTTY });
  const { issuer, audience, whenStale, maxStaleness } = flags;
  let count: (event: string) => void = () => undefined;
  const verifier = createVerifier({
    issuer,
    audience,
    revocation: { whenStale, maxStaleness },
    logger: { warn: (message, details) => logger.warn(details, message) },
    onEvent: ({ type }) => count(type),
  });
  const metrics = createGatewayMetrics(() => verifier.revocationAgeMs() / 1000);
  count = (event) => metrics.events.inc({ event });
  let isKnowing = false;
  void verifier.ready().then(() => {
    isKnowing = true;
  });
  let draining = false;
  const maxAgeMs = parseDurationMs(maxStaleness) ?? 0;
  const isJudging = () => isKnowing && verifier.revocationAgeMs() <= maxAgeMs;
  const isReady = () => !draining && (whenStale === "accept" || isJudging());
  const signal = shutdownSignal(logger, { underNpm: environment["npm_lifecycle_event"] !== undefined });
  const server = await listen(createGateway({ verifier, logger, metrics, isReady }), flags.host, flags.port);
  logger.info({ port: server.port, issuer, audience }, "listening");
  process.send?.({ type: "listening", port: server.port });
  await signal;
  draining = true;
  await server.close(requestsEndWithinMs);
  await verifier.close();
}
