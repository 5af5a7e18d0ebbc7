/** Verifies Keyfleet's access tokens: strictly, alone, and knowing within a second what was revoked. */

import { compactVerify } from "jose/jws/compact/verify";
import { compactJwsMaxCharacters, decodeCompactJws } from "../protocol/compact-jws.ts";
import { checkClaims, checkTimes, type VerifiedClaims } from "./check-claims.ts";
import { checkHeader } from "./check-header.ts";
import { steadyNowMs, systemNowMs } from "./clock.ts";
import { createDiscovery } from "./discovery.ts";
import { VerificationError } from "./errors.ts";
import { createIntrospector } from "./introspection.ts";
import { createKeySource } from "./key-source.ts";
import { checkOptions, type VerifierEvent, type VerifierLogger, type VerifierOptions } from "./options.ts";
import { createResultCache, digestOf } from "./result-cache.ts";
import { createRevocationSubscriber } from "./revocation-subscriber.ts";
import { createRevokedSet } from "./revoked-set.ts";

export interface Verifier {
  /**
   * The claims of a token that is good right now for this audience.
   *
   * Checked: its one canonical spelling, header, key, signature, issuer, audience, times, required claims, and, as
   * the options say, revocation of token, session and key, and whether it was issued. Not checked: its scope.
   *
   * Throws `VerificationError`, and nothing else. Where `isUnavailable`, the token could not be judged.
   */
  verify(token: string): Promise<VerifiedClaims>;
  /** Resolves when revocations are known for the first time: worth waiting for before listening. */
  ready(): Promise<void>;
  /** Milliseconds that revocations may be missing for: 0 where they are not followed. */
  revocationAgeMs(): number;
  /** Ends the stream. What was verified so far stays so; verify no more. */
  close(): Promise<void>;
  readonly logger: VerifierLogger | undefined;
}

const resultsMax = 10_000;

/** Throws TypeError where the options are incomplete or out of bounds. */
export function createVerifier(options: VerifierOptions): Verifier {
  const checked = checkOptions(options);
  const { revocation, algorithms } = checked;
  const { now = systemNowMs, now: steadyNow = steadyNowMs } = options;
  const { logger, onEvent } = unobtrusive(options);
  const fetch = options.fetch ?? globalThis.fetch.bind(globalThis);
  const discovery = createDiscovery({
    issuer: checked.issuer,
    allowedOrigins: checked.allowedOrigins,
    fetch,
    steadyNow,
  });
  const keys = createKeySource({ discovery, algorithms, fetch, now, steadyNow, onEvent });
  const results = createResultCache(resultsMax);
  const revoked = createRevokedSet(now, steadyNow);
  const subscriber =
    revocation === null
      ? undefined
      : createRevocationSubscriber({
          discovery,
          revoked,
          fetch,
          onEvent,
          logger,
          pollEveryMs: Math.min(5000, revocation.maxStalenessMs / 4),
          standstillMaxMs: Math.min(15_000, revocation.maxStalenessMs / 2),
          steadyNow,
        });
  const introspector =
    checked.introspection === undefined
      ? undefined
      : createIntrospector({ discovery, credentials: checked.introspection, fetch, steadyNow });

  function refuseRevoked(kid: string, { jti, rid }: VerifiedClaims): void {
    if (revocation === null) return;
    if (revoked.has("key", kid)) throw new VerificationError("revoked_key");
    if (revoked.has("token", jti) || (rid !== undefined && revoked.has("session", rid))) {
      throw new VerificationError("token_revoked");
    }
    if (revocation.rejectStale && revoked.ageMs() > revocation.maxStalenessMs) {
      throw new VerificationError("revocation_stale");
    }
  }

  async function verifyAnew(token: string): Promise<{ kid: string; claims: VerifiedClaims }> {
    const decoded = decodeCompactJws(token);
    if (decoded === undefined) throw new VerificationError("malformed_token");
    const { alg, kid } = checkHeader(decoded.header, algorithms);
    if (revocation !== null && revoked.has("key", kid)) throw new VerificationError("revoked_key");
    const publicKey = await keys.get(kid);
    if (publicKey.algorithm !== alg) throw new VerificationError("invalid_algorithm");
    await compactVerify(token, publicKey.key, { algorithms: [alg] }).catch((cause: unknown) => {
      throw new VerificationError("signature_failed", { cause });
    });
    return { kid, claims: checkClaims(decoded.claims, checked, publicKey.expiresAtMs, now()) };
  }

  async function verify(token: string): Promise<VerifiedClaims> {
    if (typeof token !== "string" || token.length > compactJwsMaxCharacters) {
      throw new VerificationError("malformed_token");
    }
    const digest = await digestOf(token);
    const cached = results.get(digest);
    const isKnown = cached !== undefined && keys.peek(cached.kid) !== undefined;
    const { kid, claims } = isKnown ? cached : await verifyAnew(token);
    if (isKnown) checkTimes(claims, checked, now());
    refuseRevoked(kid, claims);
    if (introspector !== undefined) {
      await introspector.check(token, digest);
      // It took its time, or is an answer of some seconds ago.
      refuseRevoked(kid, claims);
    }
    results.set(digest, { kid, claims });
    return claims;
  }

  return {
    async verify(token) {
      try {
        return await verify(token);
      } catch (error) {
        if (error instanceof VerificationError) throw error;
        // Nothing that a token can bring about: so it was not judged.
        throw new VerificationError("keys_unavailable", { cause: error });
      }
    },
    ready: () => subscriber?.ready ?? Promise.resolve(),
    revocationAgeMs: () => (revocation === null ? 0 : revoked.ageMs()),
    async close() {
      subscriber?.close();
    },
    logger,
  };
}

/** A logger or an observer that throws changes no verdict. */
function unobtrusive({ logger, onEvent }: VerifierOptions) {
  const quietly = (tell: () => void) => {
    try {
      tell();
    } catch {
      // It is the service's own, and has its own ways to say so.
    }
  };
  return {
    onEvent: (event: VerifierEvent) => quietly(() => onEvent?.(event)),
    logger: logger && {
      warn: (message: string, details: object) => quietly(() => logger.warn(message, details)),
    },
  };
}
