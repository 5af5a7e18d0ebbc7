/** Tokens that were good, by the SHA-256 of their whole text: many spellings never share an entry. */

import type { VerifiedClaims } from "./check-claims.ts";

export interface CachedResult {
  readonly kid: string;
  readonly claims: VerifiedClaims;
}

export interface ResultCache {
  /** What was found out; whether it still holds is asked on every hit. */
  get(digest: string): CachedResult | undefined;
  set(digest: string, result: CachedResult): void;
}

/** The least lately used goes first. */
export function createResultCache(max: number): ResultCache {
  const results = new Map<string, CachedResult>();
  return {
    get(digest) {
      const result = results.get(digest);
      if (result === undefined) return undefined;
      results.delete(digest);
      results.set(digest, result);
      return result;
    },
    set(digest, result) {
      results.set(digest, result);
      const oldest = results.size > max ? results.keys().next().value : undefined;
      if (oldest !== undefined) results.delete(oldest);
    },
  };
}

/** SHA-256, as text. */
export async function digestOf(token: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(token));
  return String.fromCharCode(...new Uint8Array(digest));
}
