/** The settings put together and checked against each other; the only reader of the environment. */

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { minuteMs, secondMs } from "./clock.ts";
import { sharedMaxAgeSeconds, staleWhileRevalidateSeconds } from "./http/published-documents.ts";
import { createPeriodSchedule, type PeriodSchedule, shortestPeriodMs } from "./keys/period-schedule.ts";
import { formatDuration } from "./protocol/duration.ts";
import { firstPartyClientId } from "./protocol/oauth.ts";
import { parseSecret, type Setting, SettingProblem, settings, testSettings } from "./settings.ts";
import { createJti, fitsAccessToken } from "./tokens/access-token.ts";

type Values = { readonly [Name in keyof typeof settings]: ReturnType<(typeof settings)[Name]["read"]> };

/** Durations in milliseconds. What is undefined in development is made there: see `development.ts`. */
export interface Config
  extends Omit<Values, "host" | "keyRotationSchedule" | "fleetSecretFile" | "shutdownLingerMs"> {
  readonly production: boolean;
  readonly host: string;
  readonly schedule: PeriodSchedule;
  readonly shutdownLingerMs: number;
}

export interface ReadConfig {
  readonly config: Config;
  /** Weaknesses that are allowed, one line each. */
  readonly warnings: readonly string[];
}

/** Every problem found, one line each, naming the setting. The process ends with exit code 78 (EX_CONFIG). */
export class ConfigError extends Error {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join("\n"));
    this.name = "ConfigError";
    this.problems = problems;
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;

const secretNames = ["FLEET_SECRET", "FLEET_SECRET_ALSO"];

/** The environment as it was at start; the secrets are removed from the live one, which reports and children show. */
export function takeEnvironment(): Environment {
  const environment = { ...process.env };
  for (const name of secretNames) delete process.env[name];
  return environment;
}

/** Throws `ConfigError` with every problem there is. `nowMs` only serves to try the schedule out. */
export function readConfig(environment: Environment, nowMs: number): ReadConfig {
  const { values, problems } = readValues(environment);
  const production = environment["NODE_ENV"] === "production";
  problems.push(
    ...(production ? missingInProduction(environment, values.issuer) : []),
    ...contradictions(values, production, nowMs),
  );
  const maxSigners = fittingSigners(values, environment, nowMs, problems);
  const fleetSecret = values.fleetSecret ?? readSecretFile(values.fleetSecretFile, problems);
  if (problems.length > 0) throw new ConfigError(problems);
  const { keyRotationSchedule, fleetSecretFile: _, ...rest } = values as Values;
  const config: Config = {
    ...rest,
    production,
    fleetSecret,
    maxSigners: maxSigners ?? rest.maxSigners,
    host: values.host ?? (production ? "0.0.0.0" : "127.0.0.1"),
    shutdownLingerMs: values.shutdownLingerMs ?? (production ? rest.keyPropagationDelayMs + minuteMs : 0),
    databaseListenUrl: values.databaseListenUrl ?? values.databaseUrl,
    schedule: createPeriodSchedule(keyRotationSchedule),
  };
  return { config, warnings: weaknesses(config) };
}

/** A value whose text is bad is left out, so that the others can still be checked. An empty text counts as unset. */
function readValues(environment: Environment): { values: Partial<Values>; problems: string[] } {
  const table: Readonly<Record<string, Setting<unknown>>> =
    environment["NODE_ENV"] === "test" ? { ...settings, ...testSettings } : settings;
  const values: Record<string, unknown> = {};
  const problems: string[] = [];
  for (const [key, setting] of Object.entries(table)) {
    const text = environment[setting.name] || setting.default;
    try {
      if (text !== undefined) values[key] = setting.read(text);
    } catch (error) {
      if (!(error instanceof SettingProblem)) throw error;
      problems.push(error.message);
    }
  }
  return { values: values as Partial<Values>, problems };
}

function readSecretFile(path: string | undefined, problems: string[]): Buffer | undefined {
  if (path === undefined) return undefined;
  try {
    const secret = parseSecret(readFileSync(path, "utf8").trim());
    if (secret === undefined) problems.push(`FLEET_SECRET_FILE must hold ${settings.fleetSecret.takes}`);
    return secret;
  } catch {
    problems.push("FLEET_SECRET_FILE cannot be read");
    return undefined;
  }
}

/** What is set, and wrong, has its own line already. */
function missingInProduction(environment: Environment, issuer: string | undefined): string[] {
  const needed = [["DATABASE_URL"], ["ISSUER"], ["FLEET_SECRET", "FLEET_SECRET_FILE"]];
  const problems = needed
    .filter((names) => !names.some((name) => environment[name]))
    .map((names) => `${names.join(" or ")} is required in production`);
  if (issuer !== undefined && !issuer.startsWith("https:")) {
    problems.push("ISSUER must be an https url in production");
  }
  return problems;
}

/** How long a new key may stay hidden in shared caches, and a minute for slow consumers. */
const leastPropagationDelayMs = (sharedMaxAgeSeconds + staleWhileRevalidateSeconds) * secondMs + minuteMs;

/** What has to fit beside issuer and audience: some 100 characters of scopes. */
const typicalGrant = {
  subject: randomUUID(),
  sessionId: randomUUID(),
  clientId: firstPartyClientId,
  jti: createJti(),
  scope: "s".repeat(100),
  authTimeMs: 0,
};

function contradictions(values: Partial<Values>, production: boolean, nowMs: number): string[] {
  const problems: string[] = [];
  const { keyPropagationDelayMs, fleetSecret, fleetSecretFile } = values;
  problems.push(...scheduleContradictions(values, nowMs));
  if (production && keyPropagationDelayMs !== undefined && keyPropagationDelayMs < leastPropagationDelayMs) {
    problems.push(
      `KEY_PROPAGATION_DELAY must be at least ${formatDuration(leastPropagationDelayMs)} in production`,
    );
  }
  if (fleetSecret !== undefined && fleetSecretFile !== undefined) {
    problems.push("FLEET_SECRET and FLEET_SECRET_FILE exclude each other");
  }
  const { issuer = "", audiences = [] } = values;
  const longest = [...audiences, issuer].reduce((a, b) => (b.length > a.length ? b : a));
  if (!fitsAccessToken({ ...typicalGrant, issuer, audience: longest })) {
    problems.push("ISSUER and AUDIENCES are too long together: an access token is at most 1 KiB");
  }
  if (values.port !== 0 && values.port === values.metricsPort)
    problems.push("METRICS_PORT must differ from PORT");
  return problems;
}

function scheduleContradictions(values: Partial<Values>, nowMs: number): string[] {
  const { keyRotationSchedule, keyPropagationDelayMs = 0 } = values;
  if (keyRotationSchedule === undefined) return [];
  const shortestMs = shortestPeriodOf(keyRotationSchedule, nowMs);
  if (shortestMs === undefined) return ["KEY_ROTATION_SCHEDULE never occurs"];
  if (shortestMs > keyPropagationDelayMs) return [];
  return [
    `KEY_ROTATION_SCHEDULE has a period of ${formatDuration(shortestMs)}, ` +
      `which must be longer than KEY_PROPAGATION_DELAY (${formatDuration(keyPropagationDelayMs)})`,
  ];
}

function shortestPeriodOf(expression: string, nowMs: number): number | undefined {
  try {
    return shortestPeriodMs(createPeriodSchedule(expression), nowMs);
  } catch {
    return undefined;
  }
}

/**
 * Consumers' limits begin at 100 keys and at 16 KB: no fleet may come to more than 90, and where all signers leave at once
 * the two keys of a first successor must find room beside theirs.
 */
const maxSteadyKeys = 88;

/**
 * MAX_SIGNERS where the fleet's keys fit; one that was not set gives way. Each signer has a current key, a next one, and
 * those that are retired and not yet expired.
 */
function fittingSigners(
  values: Partial<Values>,
  environment: Environment,
  nowMs: number,
  problems: string[],
): number | undefined {
  const { keyRotationSchedule = "", accessTokenTtlMs, verifyGraceMs, maxSigners } = values;
  const periodMs = shortestPeriodOf(keyRotationSchedule, nowMs);
  if (periodMs === undefined || accessTokenTtlMs === undefined || verifyGraceMs === undefined)
    return maxSigners;
  const keysEach = 2 + Math.ceil((accessTokenTtlMs + verifyGraceMs) / periodMs);
  const most = Math.floor(maxSteadyKeys / keysEach);
  const cause =
    `with a period of ${formatDuration(periodMs)} each signer has ${keysEach} unexpired keys, ` +
    `and a fleet may have ${maxSteadyKeys}`;
  if (most < 1) problems.push(`KEY_ROTATION_SCHEDULE must rotate less often: ${cause}`);
  if (maxSigners === undefined || maxSigners <= most) return maxSigners;
  if (environment[settings.maxSigners.name] && most >= 1)
    problems.push(`MAX_SIGNERS must be at most ${most}: ${cause}`);
  return most;
}

function weaknesses(config: Config): string[] {
  const warnings: string[] = [];
  if (!config.production && config.keyPropagationDelayMs < leastPropagationDelayMs) {
    const least = formatDuration(leastPropagationDelayMs);
    warnings.push(
      `KEY_PROPAGATION_DELAY is under ${least}: consumers behind a cache may reject valid tokens`,
    );
  }
  const { databaseUrl, databaseListenUrl } = config;
  const isUnverified = (text: string | undefined) =>
    text !== undefined && new URL(text).searchParams.get("sslmode") !== "verify-full";
  const warnUnverified = (name: string) =>
    warnings.push(`${name} has no sslmode=verify-full: the database's identity is not verified`);
  if (config.production && isUnverified(databaseUrl)) warnUnverified("DATABASE_URL");
  if (config.production && databaseListenUrl !== databaseUrl && isUnverified(databaseListenUrl)) {
    warnUnverified("DATABASE_LISTEN_URL");
  }
  return warnings;
}
