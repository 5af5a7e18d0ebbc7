/** What the gateway counts. */

import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";

export type GatewayMetrics = ReturnType<typeof createGatewayMetrics>;

export function createGatewayMetrics(revocationAgeSeconds: () => number) {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  return {
    registry,
    decisions: new Counter({
      name: "keyfleet_gateway_decisions_total",
      help: "Requests judged, by the status of the answer",
      labelNames: ["status"],
      registers,
    }),
    events: new Counter({
      name: "keyfleet_gateway_verifier_events_total",
      help: "What the verifier told: keys fetched and unknown, the stream lost and found",
      labelNames: ["event"],
      registers,
    }),
    revocationAge: new Gauge({
      name: "keyfleet_gateway_revocation_age_seconds",
      help: "How long revocations may be missing for",
      registers,
      collect() {
        this.set(revocationAgeSeconds());
      },
    }),
  };
}
