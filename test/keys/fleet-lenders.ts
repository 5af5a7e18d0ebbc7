/** Who could lend a signature, as seen from outside: by what was committed, and by the signs of life. */

import { type FleetRecord, knows, type Publication } from "./fleet-record.ts";
import type { SimulatedInstance } from "./simulated-instance.ts";

/** Kids of mature keys of other instances. */
export interface Lenders {
  /** An issuing statement finds them, whenever it comes within the tolerance. */
  readonly sure: ReadonlySet<string>;
  /** It may find them, or think that they are there. */
  readonly possible: ReadonlySet<string>;
}

/** What an issuing statement could find, as things stood when it was sent. */
export interface BeforeLogin {
  readonly atMs: number;
  readonly mayBeAlone: boolean;
  readonly lenders: Lenders;
  /** Kids of the keys that the instance had read of. */
  readonly known: ReadonlySet<string>;
}

interface Situation {
  readonly record: FleetRecord;
  readonly settings: {
    readonly propagationDelayMs: number;
    readonly accessTokenTtlMs: number;
    readonly verifyGraceMs: number;
  };
  readonly toleranceMs: number;
  nowMs(): number;
}

/** Of the design: a sign of life older than this is silence, and then death. */
const silentAfterMs = 15_000;
const deadAfterMs = 60_000;

function isUsable(
  { record, settings }: Situation,
  { kid, ...published }: Publication,
  nowMs: number,
): boolean {
  const row = record.rows.get(kid);
  const endMs = Math.min(published.retiresAtMs, row?.retiredEarlyAtMs ?? Number.POSITIVE_INFINITY);
  return (
    published.publishedAtMs + settings.propagationDelayMs <= nowMs &&
    published.activatesAtMs <= nowMs &&
    endMs > nowMs &&
    (row?.expiryMs ?? published.expiresAtMs) >= nowMs + settings.accessTokenTtlMs + settings.verifyGraceMs
  );
}

export function lendersFor(fleet: Situation, borrower: SimulatedInstance): Lenders {
  const { record, toleranceMs } = fleet;
  const nowMs = fleet.nowMs();
  const others = [...record.publications.values()].filter(({ instanceId }) => instanceId !== borrower.id);
  const usable = (offsetMs: number) => (key: Publication) => isUsable(fleet, key, nowMs + offsetMs);
  const silentMs = ({ instanceId }: Publication) => record.silentForMs(instanceId, nowMs);
  const sure = others
    .filter((key) => usable(-toleranceMs)(key) && usable(toleranceMs)(key))
    .filter((key) => silentMs(key) < silentAfterMs - toleranceMs && !record.leaving.has(key.instanceId))
    .filter(({ kid }) => !record.lost.has(kid) && knows(record, borrower, kid));
  const possible = others
    .filter((key) => usable(-toleranceMs)(key) || usable(toleranceMs)(key))
    .filter((key) => silentMs(key) <= deadAfterMs + toleranceMs);
  const kids = (keys: readonly Publication[]) => new Set(keys.map(({ kid }) => kid));
  return { sure: kids(sure), possible: kids(possible) };
}

/** A mature key of another that the statement found which issued then, by the database's own clock. */
export function lenderFound(
  fleet: Situation,
  borrower: SimulatedInstance,
  { known }: BeforeLogin,
  issuedAtMs: number,
): Publication | undefined {
  const { record, toleranceMs } = fleet;
  // It comes in whole milliseconds, rounded down.
  const isUsableThen = (key: Publication) =>
    isUsable(fleet, key, issuedAtMs) && isUsable(fleet, key, issuedAtMs + 1);
  return [...record.publications.values()].find(
    (key) =>
      key.instanceId !== borrower.id &&
      known.has(key.kid) &&
      !record.lost.has(key.kid) &&
      !record.leaving.has(key.instanceId) &&
      record.silentForMs(key.instanceId, issuedAtMs) < silentAfterMs - toleranceMs &&
      isUsableThen(key),
  );
}
