/** The key ring: the signing keys this process holds, each beside the row that it published for it. */

import { type Clock, secondMs, stepThresholdMs } from "../clock.ts";
import type { AccessTokenClaims } from "../protocol/access-token.ts";
import { expiryMs, isMature, type PublishedKey, retirementMs } from "./published-key.ts";
import { isDone } from "./rotation-plan.ts";
import type { SigningKey } from "./signing-key.ts";

/** What an instance offers to the issuing statement, which chooses. */
export interface KeyOffer {
  /** Published long enough that every instance that reaches the database serves them (I1). */
  readonly settled: readonly string[];
  /** Published so lately that only an instance that is alone may sign with them. */
  readonly unsettled: readonly string[];
  /** Whether of the settled one that has matured signs, whenever the statement may come: then none need be borrowed. */
  readonly isMature: boolean;
}

/** Signs what the issuing statement decided; see `KeyRing`. */
export interface Signer {
  offer(): KeyOffer;
  /** The compact JWS; undefined where the key is not held here (any more), or would not outlive the token (I2). */
  sign(kid: string, claims: AccessTokenClaims): string | undefined;
}

export interface KeyRing extends Signer {
  add(signingKey: SigningKey, published: PublishedKey, settledAtMs: number): void;
  /** Whether a token could be signed now without being alone: a settled key is active. */
  canSign(): boolean;
  /** Whether this key may sign for others: held, settled and mature. */
  canLend(kid: string): boolean;
  /** The rows of the keys held, brought up to date by `refresh`. */
  keys(): readonly PublishedKey[];
  /** Replaces the rows by what the directory knows of them: an end that another set, a revocation. */
  refresh(latest: (kid: string) => PublishedKey | undefined): void;
  /** Drops the private halves of keys that are done; returns their kids. */
  dropDone(): readonly string[];
  dropAll(): void;
}

/** How long after the offer the statement may come: a period may end in between, and a key mature. */
export const statementWithinMs = 2 * secondMs;

interface HeldKey {
  readonly signingKey: SigningKey;
  readonly settledAtMs: number;
  published: PublishedKey;
}

/** Durations in milliseconds. */
export function createKeyRing(deps: {
  readonly clock: Clock;
  readonly verifyGraceMs: number;
  readonly propagationDelayMs: number;
}): KeyRing {
  const { clock, verifyGraceMs, propagationDelayMs } = deps;
  const held = new Map<string, HeldKey>();

  function drop(kid: string): void {
    held.get(kid)?.signingKey.destroy();
    held.delete(kid);
  }

  /** Neither revoked nor retired; `next` is among them, for the statement may come after the boundary. */
  function usableAt(nowMs: number): readonly HeldKey[] {
    return [...held.values()].filter(
      ({ published }) => published.revokedAtMs === null && retirementMs(published) > nowMs,
    );
  }

  const signsAt = (key: HeldKey, nowMs: number) =>
    key.settledAtMs <= nowMs && key.published.activatesAtMs <= nowMs;
  const isMatureAt = (key: HeldKey, nowMs: number) => isMature(key.published, propagationDelayMs, nowMs);
  const hasMatureAt = (nowMs: number) =>
    usableAt(nowMs).some((key) => signsAt(key, nowMs) && isMatureAt(key, nowMs));
  /** Asked where it could cease: one that ends may leave a gap until the next has matured. */
  function hasMatureThroughout(fromMs: number, untilMs: number): boolean {
    const ends = [...held.values()].map(({ published }) => retirementMs(published));
    return [fromMs, ...ends.filter((endMs) => endMs > fromMs && endMs <= untilMs)].every(hasMatureAt);
  }

  return {
    offer() {
      if (held.size === 0) return { settled: [], unsettled: [], isMature: false };
      const nowMs = clock.nowMs();
      // By the database's clock, of which the estimate may be ahead, a period may not have ended yet, nor a key matured.
      const earliestMs = nowMs - stepThresholdMs;
      const usable = usableAt(earliestMs);
      const kids = (settled: boolean) =>
        usable.filter((key) => key.settledAtMs <= nowMs === settled).map((key) => key.signingKey.kid);
      return {
        settled: kids(true),
        unsettled: kids(false),
        isMature: hasMatureThroughout(earliestMs, nowMs + statementWithinMs),
      };
    },
    sign(kid, claims) {
      const key = held.get(kid);
      const outlivesToken =
        key !== undefined && claims.exp * secondMs + verifyGraceMs <= expiryMs(key.published);
      if (!outlivesToken) return undefined;
      return key.signingKey.signAccessToken(claims);
    },
    add(signingKey, published, settledAtMs) {
      held.set(signingKey.kid, { signingKey, published, settledAtMs });
    },
    canSign() {
      if (held.size === 0) return false;
      const nowMs = clock.nowMs();
      return usableAt(nowMs).some((key) => signsAt(key, nowMs));
    },
    canLend(kid) {
      const key = held.get(kid);
      const nowMs = clock.nowMs();
      // Mature by the database's clock, of which the estimate may be behind.
      return key !== undefined && key.settledAtMs <= nowMs && isMatureAt(key, nowMs + stepThresholdMs);
    },
    keys: () => [...held.values()].map((key) => key.published),
    refresh(latest) {
      for (const [kid, key] of held) key.published = latest(kid) ?? key.published;
    },
    dropDone() {
      const nowMs = held.size === 0 ? 0 : clock.nowMs();
      const done = [...held.values()].filter((key) => isDone(key.published, nowMs));
      for (const { signingKey } of done) drop(signingKey.kid);
      return done.map((key) => key.signingKey.kid);
    },
    dropAll() {
      for (const kid of [...held.keys()]) drop(kid);
    },
  };
}
