/** Where the issuer's endpoints are, by its own word, believed only as far as it goes (OpenID Connect Discovery §4). */

import { fetchJson } from "./fetch-json.ts";

export interface Endpoints {
  readonly jwksUri: string;
  /** One key by its kid: undefined for an issuer that has no such thing. */
  readonly keyUri: ((kid: string) => string) | undefined;
  /** The revocation log, as a snapshot; its stream is below. Undefined for an issuer that has none. */
  readonly revocationsUri: string | undefined;
  readonly introspectionUri: string | undefined;
}

export interface Discovery {
  /** Asked once, and again a second after a failure. Throws where the issuer cannot be asked, or is not to be believed. */
  endpoints(): Promise<Endpoints>;
}

export interface DiscoveryOptions {
  readonly issuer: string;
  readonly allowedOrigins: readonly string[];
  readonly fetch: typeof globalThis.fetch;
  readonly steadyNow: () => number;
}

const limits = { timeoutMs: 5000, maxBytes: 64 * 1024 };
/** A flood of tokens must not become one of requests to an issuer that is in trouble. */
const failureHoldsForMs = 1000;
const jwksSuffix = "/.well-known/jwks.json";

export function createDiscovery(options: DiscoveryOptions): Discovery {
  const { issuer, allowedOrigins, fetch, steadyNow } = options;
  const metadataUrl = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
  let asked: Promise<Endpoints> | undefined;
  let failedAtMs: number | undefined;

  async function ask(): Promise<Endpoints> {
    const { body } = await fetchJson(fetch, metadataUrl, limits);
    const metadata = (typeof body === "object" && body !== null ? body : {}) as Record<string, unknown>;
    if (metadata["issuer"] !== issuer) throw new Error("the metadata are another issuer's");
    const jwksUri = endpoint(metadata["jwks_uri"]);
    if (jwksUri === undefined) throw new Error("the metadata name no jwks_uri");
    const revocationsUri = endpoint(metadata["revocation_events_endpoint"]);
    const hasKeyUri = revocationsUri !== undefined && jwksUri.endsWith(jwksSuffix);
    return {
      jwksUri,
      keyUri: hasKeyUri ? (kid) => `${jwksUri.slice(0, -".json".length)}/${kid}` : undefined,
      revocationsUri,
      introspectionUri: endpoint(metadata["introspection_endpoint"]),
    };
  }

  /** Throws where the metadata would send requests somewhere else. */
  function endpoint(value: unknown): string | undefined {
    if (typeof value !== "string" || !URL.canParse(value)) return undefined;
    if (!allowedOrigins.includes(new URL(value).origin)) {
      throw new Error("the metadata name an endpoint of another origin");
    }
    return value;
  }

  return {
    endpoints() {
      if (failedAtMs !== undefined && steadyNow() - failedAtMs >= failureHoldsForMs) {
        asked = undefined;
        failedAtMs = undefined;
      }
      asked ??= ask().catch((error: unknown) => {
        failedAtMs = steadyNow();
        throw error;
      });
      return asked;
    },
  };
}
