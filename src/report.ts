/** What becomes of events in the log and in the metrics: each is told once, and counted every time. */

import type { ClockEvent } from "./clock.ts";
import type { RejectedKey } from "./keys/follow-directory.ts";
import type { KeyEvent } from "./keys/key-rotation.ts";
import type { Logger } from "./logger.ts";
import type { Metrics } from "./metrics.ts";

/** Hears every failure, and every success: logs the first failure of a row of them, and that it is over. */
export type OutcomeReporter = (error?: unknown) => void;

export function createOutcomeReporter(logger: Logger, what: string): OutcomeReporter {
  let failing = false;
  return (error) => {
    if (error !== undefined && !failing) logger.warn({ err: error }, `${what} fails`);
    if (error === undefined && failing) logger.info(`${what} works again`);
    failing = error !== undefined;
  };
}

export function createSyncReporter(logger: Logger, metrics: Metrics): OutcomeReporter {
  const report = createOutcomeReporter(logger, "reading the fleet's state");
  return (error) => {
    metrics.fleetSyncs.inc({ outcome: error === undefined ? "done" : "failed" });
    report(error);
  };
}

export function createClockReporter(logger: Logger, metrics: Metrics): (event: ClockEvent) => void {
  return (event) => {
    if (event.type === "set") return;
    if (event.type === "stepped") metrics.clockSteps.inc();
    const by = { by_ms: Math.round(event.byMs) };
    if (event.type === "stepped")
      logger.error(by, "the database's clock stepped: nothing is issued until it is sure");
    else logger.warn(by, "the database's clock is followed again");
  };
}

/** A refused key is tried again all the time: the refusal is told once, until a key is published or it has another reason. */
export function createKeyReporter(logger: Logger, metrics: Metrics): (event: KeyEvent) => void {
  let toldReason: string | undefined;
  return (event) => {
    metrics.keyEvents.inc({ event: event.type });
    if (event.type === "published") {
      toldReason = undefined;
      const { kid, activatesAtMs, retiresAtMs } = event.key;
      const times = { activates_at: toIsoTime(activatesAtMs), retires_at: toIsoTime(retiresAtMs) };
      logger.info({ kid, ...times }, "published a signing key");
    } else if (event.type === "dropped")
      logger.info({ kid: event.kid }, "dropped the private half of a retired key");
    else if (event.reason !== toldReason) {
      toldReason = event.reason;
      logger.warn({ reason: event.reason }, "the database refused a signing key");
    }
  };
}

/** A row that is not served is an alarm, once; it stays a number in the metrics as long as it is there. */
export function createRejectionReporter(
  logger: Logger,
  metrics: Metrics,
): (rejected: readonly RejectedKey[]) => void {
  let told = new Set<string>();
  return (rejected) => {
    metrics.directoryRejectedKeys.set(rejected.length);
    for (const { kid, fault } of rejected) {
      if (!told.has(kid))
        logger.error({ kid: String(kid).slice(0, 64), fault }, "a row of signing_keys is not served");
    }
    told = new Set(rejected.map(({ kid }) => kid));
  };
}

/** A row that was not written by an instance is an alarm every time it is met: somebody writes to the database. */
export function createForgedRowReporter(
  logger: Logger,
  metrics: Metrics,
): (kind: "account" | "client" | "session", id: string) => void {
  return (kind, id) => {
    metrics.forgedRows.inc({ kind });
    logger.error({ kind, id }, "a row was not written by Keyfleet: taken as if it were not there");
  };
}

/** A token that was never issued is an alarm; `respond` does more where that is the setting. */
export function createForgeryReporter(
  logger: Logger,
  metrics: Metrics,
  respond: (kid: string) => Promise<void>,
): (kid: string) => Promise<void> {
  return async (kid) => {
    metrics.forgedTokens.inc();
    logger.error({ kid }, "a key signed a token that was never issued: it is in other hands");
    await respond(kid);
  };
}

function toIsoTime(timeMs: number): string {
  return new Date(timeMs).toISOString();
}
