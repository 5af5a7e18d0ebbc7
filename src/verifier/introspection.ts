/** Strict mode: the issuer's own word on each token (RFC 7662). */

import type { Discovery } from "./discovery.ts";
import { VerificationError } from "./errors.ts";
import { fetchJson } from "./fetch-json.ts";
import type { IntrospectionOptions } from "./options.ts";

export interface Introspector {
  /** `digest` stands for the token. Throws `not_issued`, and `revocation_stale` where the issuer cannot be asked. */
  check(token: string, digest: string): Promise<void>;
}

export interface IntrospectorOptions {
  readonly discovery: Discovery;
  readonly credentials: Required<IntrospectionOptions>;
  readonly fetch: typeof globalThis.fetch;
  readonly steadyNow: () => number;
}

const limits = { timeoutMs: 5000, maxBytes: 64 * 1024 };
const cacheMax = 10_000;

export function createIntrospector(options: IntrospectorOptions): Introspector {
  const { discovery, fetch, steadyNow, credentials } = options;
  const { clientId, clientSecret, cacheSeconds } = credentials;
  const encode = (part: string) => encodeURIComponent(part).replaceAll("%20", "+");
  const authorization = `Basic ${btoa(`${encode(clientId)}:${encode(clientSecret)}`)}`;
  const activeUntilMs = new Map<string, number>();
  const underWay = new Map<string, Promise<void>>();

  async function ask(token: string): Promise<boolean> {
    const { introspectionUri } = await discovery.endpoints();
    if (introspectionUri === undefined) throw new Error("the issuer has no introspection endpoint");
    const { status, body } = await fetchJson(fetch, introspectionUri, limits, {
      method: "POST",
      headers: { authorization, "content-type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({ token, token_type_hint: "access_token" }).toString(),
    });
    if (status !== 200) throw new Error(`the issuer answered ${status}`);
    return (body as { active?: unknown } | undefined)?.active === true;
  }

  async function askAndRemember(token: string, digest: string): Promise<void> {
    const isActive = await ask(token).catch((error: unknown) => {
      throw new VerificationError("revocation_stale", { cause: error });
    });
    if (!isActive) throw new VerificationError("not_issued");
    if (cacheSeconds === 0) return;
    activeUntilMs.set(digest, steadyNow() + cacheSeconds * 1000);
    const oldest = activeUntilMs.size > cacheMax ? activeUntilMs.keys().next().value : undefined;
    if (oldest !== undefined) activeUntilMs.delete(oldest);
  }

  return {
    check(token, digest) {
      if ((activeUntilMs.get(digest) ?? Number.NEGATIVE_INFINITY) > steadyNow()) return Promise.resolve();
      const asked = underWay.get(digest);
      if (asked !== undefined) return asked;
      const asking = askAndRemember(token, digest).finally(() => underWay.delete(digest));
      underWay.set(digest, asking);
      return asking;
    },
  };
}
