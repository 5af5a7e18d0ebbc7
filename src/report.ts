/** What becomes of events in the log and in the metrics: each is told once, and counted every time. */

import type { ClockEvent } from "./clock.ts";
import type { RejectedKey } from "./keys/follow-directory.ts";
import type { KeyEvent } from "./keys/key-rotation.ts";
import type { Logger } from "./logger.ts";
import type { Metrics } from "./metrics.ts";
import type { SigningKeyKind } from "./tokens/issuing.ts";

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
  let told: string | undefined;
  const tellOnce = (reason: string, tell: () => void) => {
    if (reason !== told) tell();
    told = reason;
  };
  return (event) => {
    metrics.keyEvents.inc({ event: event.type });
    if (event.type === "published") {
      told = undefined;
      const { kid, activatesAtMs, retiresAtMs } = event.key;
      const times = { activates_at: toIsoTime(activatesAtMs), retires_at: toIsoTime(retiresAtMs) };
      logger.info({ kid, ...times }, "published a signing key");
    } else if (event.type === "dropped")
      logger.info({ kid: event.kid }, "dropped the private half of a retired key");
    else if (event.type === "placeless")
      tellOnce("placeless", () => logger.info("others publish keys: this instance borrows their signatures"));
    else
      tellOnce(event.reason, () =>
        logger.warn({ reason: event.reason }, "the database refused a signing key"),
      );
  };
}

/** A key that caches may not know yet has to sign where no other lives: told once until that is over. */
export function createIssueReporter(logger: Logger, metrics: Metrics): (key: SigningKeyKind) => void {
  let isImmature = false;
  return (key) => {
    metrics.tokensIssued.inc({ key });
    if (key === "immature" && !isImmature)
      logger.warn("no mature key is alive: consumers may refuse new tokens until they refetch the JWKS");
    isImmature = key === "immature";
  };
}

/** Where consumers begin to take no more: the first at 100 keys, or at 16 KB. */
const jwksLimits = { keys: 100, bytes: 16_384 };
const warnFrom = 0.8;

/** Tells once that the JWKS comes near what consumers take, and again after it was smaller. */
export function createDirectorySizeReporter(
  logger: Logger,
  metrics: Metrics,
): (size: { readonly keys: number; readonly bytes: number }) => void {
  let isLarge = false;
  return ({ keys, bytes }) => {
    metrics.directoryKeys.set(keys);
    metrics.directoryBytes.set(bytes);
    const wasLarge = isLarge;
    isLarge = keys >= jwksLimits.keys * warnFrom || bytes >= jwksLimits.bytes * warnFrom;
    if (isLarge && !wasLarge)
      logger.warn({ keys, bytes }, "the JWKS is nearly as large as consumers take (100 keys, 16 KB)");
  };
}

export interface FleetReporter {
  onLost(instanceIds: readonly string[]): void;
  onEnded(why: "duplicated" | "stopped"): void;
  onRestored(rows: number): void;
}

export function createFleetReporter(logger: Logger, metrics: Metrics): FleetReporter {
  return {
    onLost(instanceIds) {
      metrics.lostInstances.inc(instanceIds.length);
      for (const instance of instanceIds)
        logger.warn({ instance }, "an instance has been silent for a minute: its keys are retired");
    },
    onEnded(why) {
      metrics.duplicatedInstances.inc();
      logger.error({ why }, "another process runs under this instance's id: both begin anew, with new keys");
    },
    onRestored(rows) {
      metrics.directoryRestoredKeys.inc(rows);
      if (rows > 0) logger.error({ rows }, "the key table had gone back in time: its rows were put back");
    },
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
