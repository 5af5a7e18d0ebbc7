/** What a verifier is told. Whatever makes it weaker has to be spelled out. */

import { parseDurationMs } from "../protocol/duration.ts";

export type VerifierAlgorithm = "EdDSA" | "Ed25519" | "ES256";

/** How revocations reach the verifier, and what it does where they don't. */
export interface RevocationOptions {
  /** Older than this, what is known of revocations counts as stale: `5s` to `1h`. Default `60s`. */
  readonly maxStaleness?: string;
  /** No default: `reject` answers `revocation_stale` then, `accept` goes on by what was known last. */
  readonly whenStale: "reject" | "accept";
}

/** Strict mode: only tokens that are on the issuer's record. One request a token, to `/introspect`. */
export interface IntrospectionOptions {
  readonly clientId: string;
  readonly clientSecret: string;
  /** How long an active answer is believed without asking again, 0 to 60. Default 0. */
  readonly cacheSeconds?: number;
}

/** For dashboards and tests. */
export type VerifierEvent =
  | { readonly type: "key_fetched" | "key_unknown" | "key_set_fetched" | "key_fetch_failed" }
  | { readonly type: "stream_connected" | "stream_lost" | "polling" | "epoch_changed" };

export interface VerifierLogger {
  /** `message` is a sentence, `details` name codes and endpoints; never a token. */
  warn(message: string, details: object): void;
}

export interface VerifierOptions {
  /** Compared exactly with the metadata's and with every token's `iss`. */
  readonly issuer: string;
  /** This service: what `aud` has to be or contain. */
  readonly audience: string;
  /** No default: how revocations are followed, or `null` for not at all. */
  readonly revocation: RevocationOptions | null;
  /** Default `["EdDSA"]`. */
  readonly algorithms?: readonly VerifierAlgorithm[];
  /** For clocks that differ, both ways: 0 to 60. Default 5. */
  readonly clockToleranceSeconds?: number;
  /** Claims that have to be there besides `iss sub aud exp iat jti client_id`. */
  readonly requiredClaims?: readonly string[];
  /** Longest lifetime believed, `exp` − `iat`: 1 to 86,400. Default 3,600. */
  readonly maxLifetimeSeconds?: number;
  readonly introspection?: IntrospectionOptions;
  /** Origins besides the issuer's own that its metadata may send requests to. */
  readonly allowedOrigins?: readonly string[];
  /** In place of the global one. */
  readonly fetch?: typeof globalThis.fetch;
  readonly logger?: VerifierLogger;
  readonly onEvent?: (event: VerifierEvent) => void;
  /** In place of the runtime's calendar: milliseconds since 1970. */
  readonly now?: () => number;
}

/** Options with their defaults, checked. */
export interface CheckedOptions {
  readonly issuer: string;
  readonly audience: string;
  readonly revocation: { readonly maxStalenessMs: number; readonly rejectStale: boolean } | null;
  readonly algorithms: readonly VerifierAlgorithm[];
  readonly clockToleranceSeconds: number;
  readonly requiredClaims: readonly string[];
  readonly maxLifetimeSeconds: number;
  readonly introspection: Required<IntrospectionOptions> | undefined;
  readonly allowedOrigins: readonly string[];
}

const knownAlgorithms: readonly string[] = ["EdDSA", "Ed25519", "ES256"];
const shortestStalenessMs = 5000;
const longestStalenessMs = 3_600_000;

/** Throws TypeError for what is missing or out of bounds: a verifier that is set up wrongly must not start. */
export function checkOptions(options: VerifierOptions): CheckedOptions {
  const { algorithms = ["EdDSA"], requiredClaims = [], allowedOrigins = [], audience } = options;
  const issuer = checkIssuer(options.issuer);
  if (typeof audience !== "string" || audience === "") throw new TypeError("audience is required");
  if (algorithms.length === 0 || !algorithms.every((algorithm) => knownAlgorithms.includes(algorithm))) {
    throw new TypeError(`algorithms must be of ${knownAlgorithms.join(", ")}`);
  }
  return {
    issuer,
    audience,
    algorithms,
    requiredClaims,
    allowedOrigins: [new URL(issuer).origin, ...allowedOrigins],
    revocation: checkRevocation(options.revocation),
    clockToleranceSeconds: checkNumber("clockToleranceSeconds", options.clockToleranceSeconds ?? 5, 0, 60),
    maxLifetimeSeconds: checkNumber("maxLifetimeSeconds", options.maxLifetimeSeconds ?? 3600, 1, 86_400),
    introspection: checkIntrospection(options.introspection),
  };
}

function checkIssuer(issuer: unknown): string {
  const isUrl =
    typeof issuer === "string" && URL.canParse(issuer) && /^https?:$/.test(new URL(issuer).protocol);
  if (!isUrl) throw new TypeError("issuer must be an http(s) url");
  return issuer;
}

function checkRevocation(revocation: RevocationOptions | null | undefined): CheckedOptions["revocation"] {
  if (revocation === null) return null;
  const { whenStale, maxStaleness = "60s" } = revocation ?? {};
  if (whenStale !== "reject" && whenStale !== "accept") {
    throw new TypeError('revocation must be null, or say whenStale: "reject" or "accept"');
  }
  const maxStalenessMs = parseDurationMs(maxStaleness);
  if (
    maxStalenessMs === undefined ||
    maxStalenessMs < shortestStalenessMs ||
    maxStalenessMs > longestStalenessMs
  ) {
    throw new TypeError("revocation.maxStaleness must be a duration from 5s to 1h");
  }
  return { maxStalenessMs, rejectStale: whenStale === "reject" };
}

function checkIntrospection(given: IntrospectionOptions | undefined): CheckedOptions["introspection"] {
  if (given === undefined) return undefined;
  const { clientId, clientSecret, cacheSeconds = 0 } = given;
  if (!clientId || !clientSecret) throw new TypeError("introspection needs clientId and clientSecret");
  return {
    clientId,
    clientSecret,
    cacheSeconds: checkNumber("introspection.cacheSeconds", cacheSeconds, 0, 60),
  };
}

function checkNumber(name: string, value: number, min: number, max: number): number {
  if (!(value >= min && value <= max)) throw new TypeError(`${name} must be from ${min} to ${max}`);
  return value;
}
