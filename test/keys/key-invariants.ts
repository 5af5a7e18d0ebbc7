/** What has to hold in a simulated fleet at every moment: I1, I2 and I3 of the design, and what follows from them. */

import { type BeforeLogin, lenderFound, lendersFor } from "./fleet-lenders.ts";
import { type IssuedToken, type KeyRow, knows, type Publication } from "./fleet-record.ts";
import type { SimulatedFleet } from "./simulated-fleet.ts";
import type { SimulatedInstance } from "./simulated-instance.ts";

export class Violation extends Error {}

/** Who did not answer is asked again after so long. */
const avoidedForMs = 5000;

function demand(holds: boolean, claim: string): asserts holds {
  if (!holds) throw new Violation(claim);
}

function endOfSigningMs(row: KeyRow): number {
  return Math.min(row.retiresAtMs, row.retiredEarlyAtMs ?? Number.POSITIVE_INFINITY);
}

function serves(instance: SimulatedInstance, kid: string): boolean {
  return instance.directory.snapshot().keys.some((key) => key.kid === kid);
}

/** Whether the instance has read the table, or was answered, since the key was published and while its row was there. */
function hasRead(fleet: SimulatedFleet, instance: SimulatedInstance, kid: string): boolean {
  return fleet.record.lost.get(kid)?.has(instance.id) ?? knows(fleet.record, instance, kid);
}

/** What I9 stands on: a key that caches may not know signs only where the statement finds no mature signer alive. */
function checkMaturity(
  fleet: SimulatedFleet,
  issuer: SimulatedInstance,
  { kid, issuedAtMs }: IssuedToken,
  publication: Publication,
  before: BeforeLogin,
): void {
  const { record, settings, toleranceMs } = fleet;
  const name = record.keyName(kid);
  const isMature = publication.publishedAtMs + settings.propagationDelayMs <= issuedAtMs + 1;
  if (publication.instanceId !== issuer.id) {
    demand(isMature, `I9: #${issuer.number} borrowed a signature of ${name}, which is not mature`);
    const silentForMs = record.silentForMs(publication.instanceId, issuedAtMs);
    const isAlive = silentForMs <= 15_000 + toleranceMs || record.leaving.has(publication.instanceId);
    demand(isAlive, `#${issuer.number} asked the owner of ${name}, silent for ${silentForMs} ms`);
    fleet.saw("a signature was borrowed");
    return;
  }
  if (isMature) return;
  const lender = lenderFound(fleet, issuer, before, issuedAtMs);
  demand(lender === undefined, `I9: ${name} signed before it was mature, though ${lender?.name} was there`);
  fleet.saw("an immature key signed where no mature one could");
}

/** I1, and what it is for: everyone who follows the table serves the key by then. */
export function checkNewToken(fleet: SimulatedFleet, issuer: SimulatedInstance, before: BeforeLogin): void {
  const { record, settings, toleranceMs } = fleet;
  const issued = record.tokens.at(-1) as IssuedToken;
  const publication = record.publications.get(issued.kid);
  const name = record.keyName(issued.kid);
  demand(publication !== undefined, `#${issuer.number} handed out what ${name} signed`);
  checkMaturity(fleet, issuer, issued, publication, before);
  const isOwn = publication.instanceId === issuer.id;
  const settledAtMs = (publication.seenAtMs ?? Number.POSITIVE_INFINITY) + 2 * settings.syncIntervalMs;
  // A lender signs after the statement, and judges the key by then.
  const signedAtMs = isOwn ? issued.issuedAtMs : fleet.nowMs();
  const isSettled = signedAtMs + toleranceMs >= settledAtMs;
  demand(
    isSettled || (isOwn && before.mayBeAlone),
    `I1: ${name} signed ${settledAtMs - issued.issuedAtMs} ms too early`,
  );
  demand(
    serves(issuer, issued.kid),
    `I3: #${issuer.number} handed out what ${name} signed and does not serve it`,
  );
  fleet.saw(isSettled ? "a settled key signed" : "an instance alone signed at once");
  for (const instance of fleet.live()) {
    const sinceSyncMs = signedAtMs - instance.lastSync().atMs;
    const follows = instance.link.isUp() && sinceSyncMs <= 2 * settings.syncIntervalMs - toleranceMs;
    if (!follows || instance === issuer || record.lost.has(issued.kid)) continue;
    // Who is ended in the database, or silent for a minute, goes on serving what it knows, and is not looked for.
    const isSilent = record.silentForMs(instance.id, signedAtMs) > 60_000 - toleranceMs;
    const isLookedFor = instance.hasStarted() && !record.leaving.has(instance.id) && !isSilent;
    if (isSettled || isLookedFor)
      demand(
        serves(instance, issued.kid),
        `I1: ${name} signs, and #${instance.number} does not serve it yet`,
      );
  }
}

/** I2, early ends included; and nothing is signed before a key's time, nor after it. */
export function checkTokensAgainstKeys(fleet: SimulatedFleet): void {
  for (const { kid, expMs, issuedAtMs } of fleet.record.tokens) {
    const row = fleet.record.rows.get(kid);
    const name = fleet.record.keyName(kid);
    if (row?.retiredEarlyAtMs) fleet.saw("a key ended early after it had signed");
    demand(row !== undefined, `a token was signed with ${name}, which has no row`);
    const outlivesByMs = expMs + fleet.settings.verifyGraceMs - row.expiryMs;
    demand(outlivesByMs <= 0, `I2: a token outlives ${name} by ${outlivesByMs} ms`);
    // The statement's time comes in whole milliseconds, rounded down; an early end is rounded to the nearest.
    demand(issuedAtMs <= endOfSigningMs(row), `a token was issued under ${name} after its retirement`);
    demand(issuedAtMs + 1 > row.activatesAtMs, `a token was issued under ${name} before its activation`);
  }
}

/** I3. */
export function checkServedKeys(fleet: SimulatedFleet): void {
  const validAfterMs = fleet.nowMs() + fleet.toleranceMs;
  const kids = new Set(fleet.record.tokens.filter(({ expMs }) => expMs > validAfterMs).map(({ kid }) => kid));
  for (const kid of kids) {
    for (const instance of fleet.live()) {
      if (!hasRead(fleet, instance, kid)) continue;
      demand(
        serves(instance, kid),
        `I3: #${instance.number} does not serve ${fleet.record.keyName(kid)}, whose tokens are valid`,
      );
      if (!instance.link.isUp()) fleet.saw("a key was served without the database");
      if (fleet.record.lost.has(kid)) fleet.saw("a key was served that a restored backup lacks");
      const fate = fleet.fateOf(fleet.record.publications.get(kid)?.instanceId ?? "");
      if (fate !== "live") fleet.saw(`a key of a ${fate} signer was served`);
    }
  }
}

/** Whether its clock is right, as far as a clock can be that is read over a network. */
function knowsTheTime(fleet: SimulatedFleet, { clock }: SimulatedInstance): boolean {
  return clock.isSteady() && Math.abs(clock.nowMs() - fleet.nowMs()) <= fleet.toleranceMs;
}

/** Every unexpired key that the instance has read is served, and none for longer: the keys of the dead go in time. */
export function checkDirectories(fleet: SimulatedFleet): void {
  const { record, toleranceMs } = fleet;
  for (const instance of fleet.live()) {
    // A machine that was paused keeps keys longer: it cannot tell that from a step of the database's clock.
    if (fleet.wasSuspended(instance) || !knowsTheTime(fleet, instance)) continue;
    for (const row of record.rows.values()) {
      const knowsOfEnd =
        !record.lost.has(row.kid) && instance.lastSync().order > (record.endedOrders.get(row.kid) ?? 0);
      const endMs = knowsOfEnd ? row.expiryMs : row.expiresAtMs;
      // A lost row may come back without its early end, from one who did not know of that.
      const mayDiffer = record.lost.has(row.kid) && record.endedOrders.has(row.kid);
      const isOver = endMs + toleranceMs < fleet.nowMs();
      const claim = `#${instance.number} ${isOver ? "still serves" : "does not serve"} ${record.keyName(row.kid)}`;
      if (isOver) {
        fleet.saw("an expired key was served no longer");
        demand(!serves(instance, row.kid), `${claim}, which is expired`);
      } else if (
        !mayDiffer &&
        row.expiryMs - toleranceMs > fleet.nowMs() &&
        hasRead(fleet, instance, row.kid)
      )
        demand(serves(instance, row.kid), `${claim}, which is not expired`);
    }
  }
}

/** Whether nothing keeps the instance from rotating its keys: it is in its right mind, and had its turn just now. */
function isWell(fleet: SimulatedFleet, instance: SimulatedInstance): boolean {
  const { record, settings } = fleet;
  const lost = instance.ring.keys().some(({ kid }) => record.lost.has(kid));
  const turnMs = Math.min(instance.lastGoodTickMs() ?? Number.NEGATIVE_INFINITY, instance.lastSync().atMs);
  const hadItsTurn = fleet.nowMs() - turnMs <= 1.2 * settings.syncIntervalMs + fleet.toleranceMs;
  const isKnown = !record.leaving.has(instance.id) && !lost;
  return instance.link.isUp() && isKnown && hadItsTurn && knowsTheTime(fleet, instance);
}

/** A period shorter than this that is left is not worth a key. */
const shortestUseMs = 1000;

/** The keys of a running instance with a place: one that may sign, and the next, published long before. */
export function checkRings(fleet: SimulatedFleet): void {
  const nowMs = fleet.nowMs();
  const period = fleet.settings.schedule.periodAt(nowMs);
  for (const instance of fleet.live()) {
    const tickMs = instance.lastGoodTickMs() ?? nowMs;
    if (instance.isPlaceless()) fleet.saw("an instance found no place among the signers");
    if (!isWell(fleet, instance) || instance.isPlaceless() || tickMs < period.startMs) continue;
    const own = [...fleet.record.rows.values()].filter(
      (row) => row.instanceId === instance.id && row.retiredEarlyAtMs === null,
    );
    const isLate = tickMs - fleet.toleranceMs >= period.startMs + (period.endMs - period.startMs) / 10;
    const hasCurrent = own.some(
      (row) => row.activatesAtMs <= nowMs + fleet.toleranceMs && row.retiresAtMs === period.endMs,
    );
    const hasNext = own.some((row) => row.activatesAtMs === period.endMs);
    if (period.endMs - tickMs >= shortestUseMs + fleet.toleranceMs)
      demand(hasCurrent, `#${instance.number} has no key for this period`);
    if (isLate) demand(hasNext, `#${instance.number} has no key for the next period`);
  }
}

/**
 * Whether nothing kept the key's owner from lending: the key was settled, and its owner is in its right mind, and hears;
 * nor the borrower from asking: for a while it leaves those alone that did not answer.
 */
function canLend(fleet: SimulatedFleet, borrower: SimulatedInstance, kid: string, sinceMs: number): boolean {
  const { instanceId: ownerId = "", heldAtMs = Number.POSITIVE_INFINITY } =
    fleet.record.publications.get(kid) ?? {};
  if (fleet.record.unansweredForMs(borrower.id, ownerId, sinceMs) <= avoidedForMs + fleet.toleranceMs)
    return false;
  if (heldAtMs + 2 * fleet.settings.syncIntervalMs + fleet.toleranceMs > sinceMs) return false;
  const owner = fleet.live().find(({ id }) => id === ownerId);
  return owner !== undefined && !fleet.isFrozen(owner) && isWell(fleet, owner) && owner.ring.canLend(kid);
}

/** Whoever has a key that may sign, or can ask one that will, issues tokens. */
export function checkRefusal(fleet: SimulatedFleet, instance: SimulatedInstance, before: BeforeLogin): void {
  fleet.saw("nothing was issued");
  if (!isWell(fleet, instance)) return;
  const { record, settings, toleranceMs } = fleet;
  const after = lendersFor(fleet, instance);
  const possible = new Set([...before.lenders.possible, ...after.possible]);
  const sure = [...before.lenders.sure].find((kid) => after.sure.has(kid));
  demand(
    sure === undefined || ![...possible].every((kid) => canLend(fleet, instance, kid, before.atMs)),
    `#${instance.number} could have borrowed a signature of ${sure && record.keyName(sure)}`,
  );
  const settledMs = fleet.nowMs() - 2 * settings.syncIntervalMs - 2 * toleranceMs;
  const good = instance.ring.keys().find(({ kid }) => {
    const row = record.rows.get(kid);
    const { heldAtMs = Number.POSITIVE_INFINITY } = record.publications.get(kid) ?? {};
    if (row === undefined || heldAtMs > settledMs) return false;
    const isMature = row.publishedAtMs + settings.propagationDelayMs <= settledMs;
    if (!isMature && possible.size > 0) return false;
    return row.activatesAtMs < settledMs && endOfSigningMs(row) > fleet.nowMs() + toleranceMs;
  });
  demand(
    good === undefined,
    `#${instance.number} could have signed with ${good && record.keyName(good.kid)}`,
  );
}
