/** Every setting: its name, default, unit and bounds, and how its text is read. `config.ts` puts them together. */

import { availableParallelism } from "node:os";
import { isCidr } from "./http/address.ts";
import { scheduleProblem } from "./keys/period-schedule.ts";
import type { LogLevel } from "./logger.ts";
import { parseDurationMs } from "./protocol/duration.ts";
import type { SigningAlg } from "./protocol/jwk.ts";

/** What is wrong with one setting, as `NAME what`. */
export class SettingProblem extends Error {}

export interface Setting<Value> {
  readonly name: string;
  /** As one would write it; undefined: not set. */
  readonly default: string | undefined;
  /** Unit and bounds, for the documentation. */
  readonly takes: string;
  /** Throws `SettingProblem`. */
  read(text: string): Value;
}

function setting<Value>(
  name: string,
  defaultText: string | undefined,
  takes: string,
  parse: (text: string) => Value | undefined,
): Setting<Value> {
  return {
    name,
    default: defaultText,
    takes,
    read(text) {
      const value = parse(text.trim());
      if (value === undefined) throw new SettingProblem(`${name} must be ${takes}`);
      return value;
    },
  };
}

/** A setting without a default is undefined where it is not set. */
function optional<Value>(given: Setting<Value>): Setting<Value | undefined> {
  return given;
}

function integer(name: string, defaultText: string, min: number, max: number): Setting<number> {
  return setting(name, defaultText, `a whole number from ${min} to ${max}`, (text) => {
    const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
    return value >= min && value <= max ? value : undefined;
  });
}

/** Bounds are spelled as settings are. */
function duration(name: string, defaultText: string | undefined, min: string, max: string): Setting<number> {
  const [minMs = 0, maxMs = 0] = [parseDurationMs(min), parseDurationMs(max)];
  return setting(name, defaultText, `a duration from ${min} to ${max}`, (text) => {
    const value = parseDurationMs(text);
    return value !== undefined && value >= minMs && value <= maxMs ? value : undefined;
  });
}

function oneOf<Value extends string>(name: string, values: readonly Value[]): Setting<Value> {
  const [first] = values;
  return setting(name, first, `one of ${values.join(", ")}`, (text) =>
    values.find((value) => value === text),
  );
}

function list(name: string, takes: string, isItem: (text: string) => boolean): Setting<readonly string[]> {
  return setting(name, "", `a comma-separated list of ${takes}`, (text) => {
    const items = text.split(",").map((item) => item.trim());
    const filled = items.filter((item) => item !== "");
    return filled.every(isItem) ? [...new Set(filled)] : undefined;
  });
}

function url(name: string, takes: string, isRight: (url: URL, text: string) => boolean): Setting<string> {
  return setting(name, undefined, takes, (text) =>
    URL.canParse(text) && isRight(new URL(text), text) ? text : undefined,
  );
}

const printable = /^[\x21-\x7e]{1,200}$/;

/** Its parts are percent-decoded by who connects, which throws at what is none: at every attempt. */
function isPostgres({ protocol, username, password, hostname, pathname }: URL): boolean {
  try {
    decodeURIComponent(username + password + hostname + pathname);
  } catch {
    return false;
  }
  return protocol === "postgres:" || protocol === "postgresql:";
}

/**
 * An issuer is compared as a string by everyone: no query, no fragment, and no slash at its end (RFC 8414 §2), not
 * even an empty one, and nothing that a parser would drop silently.
 */
function isIssuer({ protocol, username, password }: URL, text: string): boolean {
  const isPlain = printable.test(text) && !/[?#]|\/$/.test(text) && username === "" && password === "";
  return isPlain && (protocol === "https:" || protocol === "http:");
}

function isOrigin(text: string): boolean {
  return URL.canParse(text) && new URL(text).origin === text;
}

/** 32 bytes or more, base64 or base64url, padded or not. */
export function parseSecret(text: string): Buffer | undefined {
  if (!/^[A-Za-z0-9+/_-]+={0,2}$/.test(text)) return undefined;
  const bytes = Buffer.from(text, "base64url");
  return bytes.length >= 32 ? bytes : undefined;
}

const secretTakes = "32 bytes or more in base64 or base64url";
const pathText = (text: string) => (text !== "" && !text.includes("\0") ? text : undefined);
const printableText = (text: string) => (printable.test(text) ? text : undefined);
const proxyName = /^(loopback|linklocal|uniquelocal)$/;

/** In the order of the documentation. Durations are read as milliseconds. */
export const settings = {
  databaseUrl: optional(url("DATABASE_URL", "a postgres:// url", isPostgres)),
  databaseListenUrl: optional(url("DATABASE_LISTEN_URL", "a postgres:// url", isPostgres)),
  host: optional(setting("HOST", undefined, "an address to listen on", (text) => printableText(text))),
  port: integer("PORT", "8080", 0, 65_535),
  metricsPort: integer("METRICS_PORT", "9464", 0, 65_535),
  issuer: optional(
    url(
      "ISSUER",
      "an http(s) url of at most 200 characters without query, fragment or final slash",
      isIssuer,
    ),
  ),
  fleetSecret: optional(setting("FLEET_SECRET", undefined, secretTakes, parseSecret)),
  fleetSecretFile: optional(setting("FLEET_SECRET_FILE", undefined, "the path of a file", pathText)),
  fleetSecretAlso: optional(setting("FLEET_SECRET_ALSO", undefined, secretTakes, parseSecret)),
  audiences: list("AUDIENCES", "audiences of 1 to 200 printable ASCII characters", (text) =>
    printable.test(text),
  ),
  signingAlg: oneOf<SigningAlg>("SIGNING_ALG", ["EdDSA", "Ed25519"]),
  keyRotationSchedule: setting("KEY_ROTATION_SCHEDULE", "0 */6 * * *", "a cron expression in UTC", (text) =>
    scheduleProblem(text) === undefined ? text : undefined,
  ),
  keyPropagationDelayMs: duration("KEY_PROPAGATION_DELAY", "12m", "0s", "24h"),
  maxSigners: integer("MAX_SIGNERS", "16", 1, 29),
  shutdownLingerMs: optional(duration("SHUTDOWN_LINGER", undefined, "0s", "25h")),
  shutdownDrainMs: duration("SHUTDOWN_DRAIN", "5s", "0s", "10m"),
  accessTokenTtlMs: duration("ACCESS_TOKEN_TTL", "15m", "1m", "60m"),
  refreshTokenTtlMs: duration("REFRESH_TOKEN_TTL", "30d", "1m", "365d"),
  sessionTtlMs: duration("SESSION_TTL", "90d", "1m", "365d"),
  verifyGraceMs: duration("VERIFY_GRACE", "10m", "0s", "24h"),
  clockToleranceMs: duration("CLOCK_TOLERANCE", "5s", "0s", "60s"),
  refreshGraceMs: duration("REFRESH_GRACE", "30s", "0s", "10m"),
  jwksMaxAgeMs: duration("JWKS_MAX_AGE", "300s", "30s", "15m"),
  fleetSyncIntervalMs: duration("FLEET_SYNC_INTERVAL", "500ms", "50ms", "10s"),
  streamLimit: integer("STREAM_LIMIT", "2000", 1, 100_000),
  bcryptCost: integer("BCRYPT_COST", "12", 10, 15),
  hashWorkers: integer("HASH_WORKERS", String(availableParallelism()), 1, 64),
  hashQueue: integer("HASH_QUEUE", "64", 1, 10_000),
  passwordMinLength: integer("PASSWORD_MIN_LENGTH", "15", 8, 256),
  issueAllowedCidrs: list("ISSUE_ALLOWED_CIDRS", "addresses or CIDR blocks", isCidr),
  trustProxy: list(
    "TRUST_PROXY",
    "addresses, CIDR blocks, loopback, linklocal or uniquelocal",
    (text) => proxyName.test(text) || isCidr(text),
  ),
  corsOrigins: list("CORS_ORIGINS", "origins", isOrigin),
  loginAttempts: integer("LOGIN_ATTEMPTS", "10", 1, 10_000),
  loginWindowMs: duration("LOGIN_WINDOW", "15m", "1s", "24h"),
  forgeryResponse: oneOf("FORGERY_RESPONSE", ["alarm", "revoke"]),
  auditRetentionMs: duration("AUDIT_RETENTION", "90d", "1d", "3650d"),
  logLevel: setting("LOG_LEVEL", "info", "one of trace, debug, info, warn, error, fatal, silent", (text) =>
    ["trace", "debug", "info", "warn", "error", "fatal", "silent"].includes(text)
      ? (text as LogLevel)
      : undefined,
  ),
} as const;

/** Weaker bounds, with `NODE_ENV=test` alone: a test cannot wait for a minute, nor for a hash of cost 10. */
export const testSettings = {
  accessTokenTtlMs: duration("ACCESS_TOKEN_TTL", "15m", "1s", "60m"),
  bcryptCost: integer("BCRYPT_COST", "12", 4, 15),
} as const;
