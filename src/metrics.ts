/** What is counted: one place for the names, so that each part counts what it does under a name one can look up. */

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

export type Metrics = ReturnType<typeof createMetrics>;

/** In a registry of their own. Durations are in seconds. */
export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  return {
    registry,
    logins: new Counter({
      name: "keyfleet_logins_total",
      help: "Logins by outcome: success, the error code of the refusal, or error",
      labelNames: ["outcome"],
      registers,
    }),
    tokenRequests: new Counter({
      name: "keyfleet_token_requests_total",
      help: "Requests to the token endpoint by grant type and outcome",
      labelNames: ["grant_type", "outcome"],
      registers,
    }),
    tokensIssued: new Counter({
      name: "keyfleet_access_tokens_issued_total",
      help: "Access tokens issued, by the signing key: mature, borrowed, or immature, which consumers may not know yet",
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
      help: "Steps in the life of this instance's signing keys: published, dropped, refused, placeless",
      labelNames: ["event"],
      registers,
    }),
    signatureLoans: new Counter({
      name: "keyfleet_signature_loans_total",
      help: "Signatures borrowed, unsent, unanswered, answered falsely; lent, and refused to others",
      labelNames: ["outcome"],
      registers,
    }),
    signer: new Gauge({
      name: "keyfleet_signer",
      help: "1 where this instance publishes keys, 0 where it borrows every signature",
      registers,
    }),
    lostInstances: new Counter({
      name: "keyfleet_lost_instances_total",
      help: "Instances whose keys this one retired because they were silent for a minute",
      registers,
    }),
    duplicatedInstances: new Counter({
      name: "keyfleet_duplicated_instances_total",
      help: "Times that another process was seen under this instance's id, and both began anew",
      registers,
    }),
    directoryKeys: new Gauge({
      name: "keyfleet_directory_keys",
      help: "Keys in this instance's JWKS",
      registers,
    }),
    directoryBytes: new Gauge({
      name: "keyfleet_directory_bytes",
      help: "Size of this instance's JWKS, uncompressed",
      registers,
    }),
    directoryRestoredKeys: new Counter({
      name: "keyfleet_directory_restored_keys_total",
      help: "Rows of the key table that this instance put back because the table had gone back in time",
      registers,
    }),
    directoryRejectedKeys: new Gauge({
      name: "keyfleet_directory_rejected_keys",
      help: "Rows of the key table that are not served, because no instance can have made them",
      registers,
    }),
    forgedRows: new Counter({
      name: "keyfleet_forged_rows_total",
      help: "Times that a row was met which no instance can have made, by kind: account, client or session",
      labelNames: ["kind"],
      registers,
    }),
    forgedTokens: new Counter({
      name: "keyfleet_forged_tokens_total",
      help: "Access tokens that a genuine key signed and nobody issued: the key is in other hands",
      registers,
    }),
    refreshReuses: new Counter({
      name: "keyfleet_refresh_tokens_reused_total",
      help: "Refresh tokens that were used again after their grace, which ended their session",
      registers,
    }),
    revocationEntries: new Gauge({
      name: "keyfleet_revocation_entries",
      help: "Unexpired entries of the revocation log in this instance's memory",
      registers,
    }),
    revocationAge: new Gauge({
      name: "keyfleet_revocation_age_seconds",
      help: "How far behind the database's time this instance has read the revocation log",
      registers,
    }),
    streamConsumers: new Gauge({
      name: "keyfleet_stream_consumers",
      help: "Consumers of the revocation stream",
      registers,
    }),
    streamDrops: new Counter({
      name: "keyfleet_stream_drops_total",
      help: "Consumers of the revocation stream that were cut off because they did not read",
      registers,
    }),
    auditLosses: new Counter({
      name: "keyfleet_audit_events_lost_total",
      help: "Audit events that could not be written",
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
