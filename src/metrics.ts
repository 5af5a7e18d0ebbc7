/** What is counted: one place for the names, so that each part counts what it does under a name one can look up. */

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

export type Metrics = ReturnType<typeof createMetrics>;

/** A registry of its own: two applications in one process count apart. Durations are in seconds. */
export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  return {
    registry,
    logins: new Counter({
      name: "keyfleet_logins_total",
      help: "Logins by outcome: success, or the error code of the refusal",
      labelNames: ["outcome"],
      registers,
    }),
    tokensIssued: new Counter({
      name: "keyfleet_access_tokens_issued_total",
      help: "Access tokens issued, by the maturity of the signing key: mature or immature",
      labelNames: ["key"],
      registers,
    }),
    httpRequests: new Histogram({
      name: "keyfleet_http_request_duration_seconds",
      help: "Requests answered by route, method and status, without those for published documents",
      labelNames: ["method", "route", "status"],
      buckets: [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      registers,
    }),
    documentsServed: new Counter({
      name: "keyfleet_documents_served_total",
      help: "Published documents served from memory, by document and status",
      labelNames: ["document", "status"],
      registers,
    }),
    passwordQueue: new Gauge({
      name: "keyfleet_password_queue_length",
      help: "Password hashes waiting for a thread",
      registers,
    }),
    keyEvents: new Counter({
      name: "keyfleet_signing_key_events_total",
      help: "Steps in the life of this instance's signing keys: published, dropped, refused",
      labelNames: ["event"],
      registers,
    }),
    directoryKeys: new Gauge({
      name: "keyfleet_directory_keys",
      help: "Keys in this instance's JWKS",
      registers,
    }),
    directoryRejectedKeys: new Gauge({
      name: "keyfleet_directory_rejected_keys",
      help: "Rows of the key table that are not served, because no instance can have made them",
      registers,
    }),
    forgedAccounts: new Counter({
      name: "keyfleet_forged_accounts_total",
      help: "Logins to an account whose row no instance can have made",
      registers,
    }),
    fleetSyncs: new Counter({
      name: "keyfleet_fleet_syncs_total",
      help: "Readings of the fleet's state: done or failed",
      labelNames: ["outcome"],
      registers,
    }),
    fleetSyncAge: new Gauge({
      name: "keyfleet_fleet_sync_age_seconds",
      help: "Time since the last complete reading of the fleet's state",
      registers,
    }),
    clockError: new Gauge({
      name: "keyfleet_clock_error_seconds",
      help: "Half the round trip of the reading that the estimate of the database's clock stands on",
      registers,
    }),
    clockSteps: new Counter({
      name: "keyfleet_clock_steps_total",
      help: "Steps of the database's clock that were noticed and not followed",
      registers,
    }),
    listening: new Gauge({
      name: "keyfleet_listening",
      help: "1 where notifications arrive, 0 where the fleet's state is only polled",
      registers,
    }),
    databaseErrors: new Counter({
      name: "keyfleet_database_errors_total",
      help: "Idle database connections that broke",
      registers,
    }),
    prunedRows: new Counter({
      name: "keyfleet_pruned_rows_total",
      help: "Rows deleted because nothing can need them any more",
      labelNames: ["table"],
      registers,
    }),
  };
}
