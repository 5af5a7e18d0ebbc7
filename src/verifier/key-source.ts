/**
 * Keys by their kid, fetched when they are first met. Unknown kids cost a bounded number of requests, whatever their
 * number, and never keep a truly new key waiting for long.
 */

import type { Discovery } from "./discovery.ts";
import { VerificationError } from "./errors.ts";
import { fetchJson } from "./fetch-json.ts";
import type { VerifierAlgorithm, VerifierEvent } from "./options.ts";
import { type PublicKey, readPublicKey } from "./public-key.ts";

export interface KeySource {
  /** Throws `unknown_key`, `revoked_key`, `keys_unavailable`. */
  get(kid: string): Promise<PublicKey>;
  /** The same from memory alone; undefined where it would have to be asked for. */
  peek(kid: string): PublicKey | undefined;
}

export interface KeySourceOptions {
  readonly discovery: Discovery;
  readonly algorithms: readonly VerifierAlgorithm[];
  readonly fetch: typeof globalThis.fetch;
  readonly now: () => number;
  readonly steadyNow: () => number;
  readonly onEvent: (event: VerifierEvent) => void;
}

interface KnownKey {
  readonly publicKey: PublicKey;
  readonly fetchedAtMs: number;
}

const limits = { timeoutMs: 5000, maxBytes: 256 * 1024 };
/** Keys are few; beyond this the oldest goes. */
const keysMax = 500;
/** A key that is older than this is asked for again, in the background. */
const refreshAfterMs = 300_000;
/** How long a kid that is not there is remembered as such. No longer: another instance may not know it yet. */
const refusedForMs = 2000;
const refusedMax = 10_000;
/** Requests for single keys: so many at once, and one more each 200 ms. Beyond, one request for all answers everyone. */
const singleBurst = 5;
const singleEveryMs = 200;
const setEveryMs = 1000;
/**
 * So many kids wait for an answer at once, more than an issuer has keys; who comes later is told to come again. A flood
 * has no use for more, and all that wait are answered in one go: a thousand held up everyone else (seen).
 */
const waitersMax = 100;

export function createKeySource(options: KeySourceOptions): KeySource {
  const { discovery, algorithms, fetch, now, steadyNow, onEvent } = options;
  const known = new Map<string, KnownKey>();
  const refused = new Map<
    string,
    { readonly code: "unknown_key" | "revoked_key"; readonly untilMs: number }
  >();
  const underWay = new Map<string, Promise<PublicKey>>();
  let singleCredit = singleBurst;
  let creditedAtMs = steadyNow();
  let setFetch: Promise<ReadonlyMap<string, PublicKey>> | undefined;
  let setFetchedAtMs = Number.NEGATIVE_INFINITY;

  function remember(publicKey: PublicKey): void {
    known.delete(publicKey.kid);
    known.set(publicKey.kid, { publicKey, fetchedAtMs: steadyNow() });
    const oldest = known.size > keysMax ? known.keys().next().value : undefined;
    if (oldest !== undefined) known.delete(oldest);
  }

  const hasEnded = ({ expiresAtMs }: PublicKey) => expiresAtMs <= now();

  function refuse(kid: string, code: "unknown_key" | "revoked_key"): never {
    refused.set(kid, { code, untilMs: steadyNow() + refusedForMs });
    const oldest = refused.size > refusedMax ? refused.keys().next().value : undefined;
    if (oldest !== undefined) refused.delete(oldest);
    throw new VerificationError(code);
  }

  function takeCredit(): boolean {
    const earned = Math.floor((steadyNow() - creditedAtMs) / singleEveryMs);
    if (earned > 0) {
      singleCredit = Math.min(singleBurst, singleCredit + earned);
      creditedAtMs += earned * singleEveryMs;
    }
    if (singleCredit === 0) return false;
    singleCredit -= 1;
    return true;
  }

  async function fetchSingle(kid: string, url: string): Promise<PublicKey> {
    const { status, body } = await fetchJson(fetch, url, limits);
    if (status === 410) refuse(kid, "revoked_key");
    if (status === 404) return refuseUnknown(kid);
    if (status !== 200) throw new Error(`the issuer answered ${status}`);
    const publicKey = await readPublicKey(body, algorithms);
    if (publicKey?.kid !== kid || hasEnded(publicKey)) return refuseUnknown(kid);
    onEvent({ type: "key_fetched" });
    remember(publicKey);
    return publicKey;
  }

  function refuseUnknown(kid: string): never {
    onEvent({ type: "key_unknown" });
    refuse(kid, "unknown_key");
  }

  /** At most one a second, and shared by everyone who waits for it. */
  function fetchSet(): Promise<ReadonlyMap<string, PublicKey>> {
    setFetch ??= (async () => {
      const waitMs = setFetchedAtMs + setEveryMs - steadyNow();
      if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      setFetchedAtMs = steadyNow();
      const { jwksUri } = await discovery.endpoints();
      const { status, body } = await fetchJson(fetch, jwksUri, limits);
      const keys = (body as { keys?: unknown } | undefined)?.keys;
      if (status !== 200 || !Array.isArray(keys)) throw new Error("the issuer served no key set");
      const read = await Promise.all(keys.map((jwk: unknown) => readPublicKey(jwk, algorithms)));
      const good = read.filter((publicKey) => publicKey !== undefined && !hasEnded(publicKey)) as PublicKey[];
      for (const publicKey of good) remember(publicKey);
      onEvent({ type: "key_set_fetched" });
      return new Map(good.map((publicKey) => [publicKey.kid, publicKey]));
    })().finally(() => {
      setFetch = undefined;
    });
    return setFetch;
  }

  async function fetchBySet(kid: string): Promise<PublicKey> {
    return (await fetchSet()).get(kid) ?? refuseUnknown(kid);
  }

  async function fetchKey(kid: string): Promise<PublicKey> {
    try {
      const { keyUri } = await discovery.endpoints();
      return await (keyUri !== undefined && takeCredit() ? fetchSingle(kid, keyUri(kid)) : fetchBySet(kid));
    } catch (error) {
      if (error instanceof VerificationError) throw error;
      onEvent({ type: "key_fetch_failed" });
      throw new VerificationError("keys_unavailable", { cause: error });
    }
  }

  /** One request a kid, shared by all who ask meanwhile. */
  function fetchOnce(kid: string): Promise<PublicKey> {
    const asked = underWay.get(kid);
    if (asked !== undefined) return asked;
    if (underWay.size >= waitersMax) return Promise.reject(new VerificationError("keys_unavailable"));
    const asking = fetchKey(kid).finally(() => underWay.delete(kid));
    underWay.set(kid, asking);
    return asking;
  }

  /** A key stays good until its end while the issuer is away; that it was revoked is believed at once. */
  async function refresh(kid: string): Promise<void> {
    await fetchOnce(kid).catch((error: VerificationError) => {
      if (error.code === "revoked_key" || error.code === "unknown_key") known.delete(kid);
    });
  }

  function peek(kid: string): PublicKey | undefined {
    const entry = known.get(kid);
    if (entry === undefined) return undefined;
    if (hasEnded(entry.publicKey)) {
      known.delete(kid);
      return undefined;
    }
    if (steadyNow() - entry.fetchedAtMs > refreshAfterMs && !underWay.has(kid)) void refresh(kid);
    return entry.publicKey;
  }

  return {
    async get(kid) {
      const publicKey = peek(kid);
      if (publicKey !== undefined) return publicKey;
      const refusal = refused.get(kid);
      if (refusal !== undefined && refusal.untilMs > steadyNow()) throw new VerificationError(refusal.code);
      return fetchOnce(kid);
    },
    peek,
  };
}
