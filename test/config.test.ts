import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "@jest/globals";
import { ConfigError, type Environment, readConfig } from "../src/config.ts";
import { settings } from "../src/settings.ts";

const nowMs = Date.UTC(2026, 0, 1);
const secret = randomBytes(32).toString("base64url");
const folder = mkdtempSync(join(tmpdir(), "keyfleet-config-"));
afterAll(() => rmSync(folder, { recursive: true }));

const production: Environment = {
  NODE_ENV: "production",
  DATABASE_URL: "postgres://keyfleet@db.example/keyfleet?sslmode=verify-full",
  ISSUER: "https://id.example",
  FLEET_SECRET: secret,
};

function problemsOf(environment: Environment): readonly string[] {
  try {
    readConfig(environment, nowMs);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}

describe("settings", () => {
  test("are all optional in development", () => {
    const { config, warnings } = readConfig({}, nowMs);
    expect(warnings).toEqual([]);
    expect(config).toMatchObject({
      production: false,
      host: "127.0.0.1",
      port: 8080,
      metricsPort: 9464,
      accessTokenTtlMs: 900_000,
      keyPropagationDelayMs: 720_000,
      shutdownDrainMs: 5000,
      signingAlg: "EdDSA",
      bcryptCost: 12,
      audiences: [],
    });
    expect(config.databaseUrl).toBeUndefined();
  });

  test("that are complete serve in production, on every address", () => {
    const { config, warnings } = readConfig(production, nowMs);
    expect(warnings).toEqual([]);
    expect(config.host).toBe("0.0.0.0");
    expect(config.databaseListenUrl).toBe(production["DATABASE_URL"]);
  });

  test("that are empty count as not set", () => {
    expect(readConfig({ PORT: "", ISSUER: "", FLEET_SECRET_FILE: "" }, nowMs).config.port).toBe(8080);
  });

  test("that are wrong are all reported at once, each by its name, none by its value", () => {
    const names = Object.values(settings).map(({ name }) => name);
    const wrong = Object.fromEntries(names.map((name) => [name, "\u0000canary\u0000"]));
    const problems = problemsOf(wrong);
    for (const name of names) expect(problems.join("\n")).toContain(name);
    expect(problems.every((problem) => !problem.includes("canary") && !problem.includes("\n"))).toBe(true);
  });

  test("that production needs are each named", () => {
    expect(problemsOf({ NODE_ENV: "production" })).toEqual([
      "DATABASE_URL is required in production",
      "ISSUER is required in production",
      "FLEET_SECRET or FLEET_SECRET_FILE is required in production",
    ]);
  });

  test("that production needs and that are wrong have one line each", () => {
    const wrong = { DATABASE_URL: "x", ISSUER: "x", FLEET_SECRET: "x" };
    expect(problemsOf({ NODE_ENV: "production", ...wrong })).toEqual([
      expect.stringMatching(/^DATABASE_URL must be/),
      expect.stringMatching(/^ISSUER must be/),
      expect.stringMatching(/^FLEET_SECRET must be/),
    ]);
  });

  test.each([
    ["PORT", "65536"],
    ["PORT", "8080.5"],
    ["ACCESS_TOKEN_TTL", "59s"],
    ["ACCESS_TOKEN_TTL", "61m"],
    ["ACCESS_TOKEN_TTL", "900"],
    ["BCRYPT_COST", "9"],
    ["BCRYPT_COST", "16"],
    ["BCRYPT_COST", "4"],
    ["PASSWORD_MIN_LENGTH", "7"],
    ["JWKS_MAX_AGE", "29s"],
    ["KEY_ROTATION_SCHEDULE", "0 */6 * *"],
    ["KEY_ROTATION_SCHEDULE", "0 0 30 2 *"],
    ["ISSUER", "https://id.example/"],
    ["ISSUER", "https://id.example?x=1"],
    ["ISSUER", "https://id.example?"],
    ["ISSUER", "https://id.example#"],
    ["ISSUER", "https://id.exa\tmple"],
    ["ISSUER", "ftp://id.example"],
    ["ISSUER", "https://user@id.example"],
    ["FLEET_SECRET", "c2hvcnQ"],
    ["FLEET_SECRET", "not base64!"],
    ["FLEET_SECRET_FILE", "/nowhere/at/all"],
    ["ISSUE_ALLOWED_CIDRS", "10.0.0.0/33"],
    ["ISSUE_ALLOWED_CIDRS", "10.0.0.0/8,nonsense"],
    ["TRUST_PROXY", "everyone"],
    ["CORS_ORIGINS", "https://app.example/path"],
    ["AUDIENCES", "https://a b"],
    ["SIGNING_ALG", "RS256"],
    ["DATABASE_URL", "mysql://db.example"],
    ["DATABASE_URL", "postgres://db.example/%zz"],
    ["DATABASE_URL", "postgres://keyfleet:%zz@db.example/keyfleet"],
    ["LOG_LEVEL", "loud"],
    ["METRICS_PORT", "8080"],
  ])("%s=%s is one problem that names it", (name, value) => {
    const problems = problemsOf({ [name]: value });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(name);
  });

  test("a hash cost of 4 is for tests alone", () => {
    expect(readConfig({ NODE_ENV: "test", BCRYPT_COST: "4" }, nowMs).config.bcryptCost).toBe(4);
  });

  test("both alphabets of base64 make the same secret, and so does a file", () => {
    const bytes = Buffer.alloc(33, 0xfb);
    const path = join(folder, "secret");
    writeFileSync(path, `${bytes.toString("base64url")}\n`);
    for (const environment of [
      { FLEET_SECRET: bytes.toString("base64") },
      { FLEET_SECRET: bytes.toString("base64url") },
      { FLEET_SECRET_FILE: path },
    ]) {
      expect(readConfig(environment, nowMs).config.fleetSecret?.equals(bytes)).toBe(true);
    }
  });
});

describe("settings that contradict each other", () => {
  test("a period must be longer than the propagation delay", () => {
    const schedule = { KEY_ROTATION_SCHEDULE: "*/12 * * * *" };
    expect(problemsOf(schedule)[0]).toMatch(/KEY_ROTATION_SCHEDULE .* KEY_PROPAGATION_DELAY/);
    expect(problemsOf({ ...schedule, KEY_PROPAGATION_DELAY: "11m" })).toEqual([]);
  });

  test("an uneven schedule is judged by its shortest period", () => {
    const problems = problemsOf({ KEY_ROTATION_SCHEDULE: "0,10 0 * * *" });
    expect(problems[0]).toContain("10m");
  });

  test("a propagation delay that shared caches can hide is refused in production, warned of elsewhere", () => {
    expect(problemsOf({ ...production, KEY_PROPAGATION_DELAY: "119s" })).toEqual([
      "KEY_PROPAGATION_DELAY must be at least 2m in production",
    ]);
    expect(problemsOf({ ...production, KEY_PROPAGATION_DELAY: "2m" })).toEqual([]);
    expect(readConfig({ KEY_PROPAGATION_DELAY: "119s" }, nowMs).warnings[0]).toContain(
      "KEY_PROPAGATION_DELAY",
    );
  });

  test("more signers than the JWKS has room for are refused, and the default gives way", () => {
    const hourly = { KEY_ROTATION_SCHEDULE: "0 * * * *", VERIFY_GRACE: "165m" };
    // Each has a next key, a current one, and three that are kept: 18 would have 90, with no room for a successor.
    expect(problemsOf({ ...hourly, MAX_SIGNERS: "17" })).toEqual([]);
    expect(problemsOf({ ...hourly, MAX_SIGNERS: "18" })).toEqual([
      "MAX_SIGNERS must be at most 17: with a period of 1h each signer has 5 unexpired keys, and a fleet may have 88",
    ]);
    expect(readConfig(hourly, nowMs).config.maxSigners).toBe(16);
    expect(readConfig({ ...hourly, VERIFY_GRACE: "8h" }, nowMs).config.maxSigners).toBe(8);
    const hasty = { KEY_ROTATION_SCHEDULE: "* * * * * *", KEY_PROPAGATION_DELAY: "0s" };
    expect(problemsOf(hasty)[0]).toContain("KEY_ROTATION_SCHEDULE must rotate less often");
  });

  test("an instance that stops lends for longer than a key takes to mature in production, and not at all elsewhere", () => {
    expect(readConfig(production, nowMs).config.shutdownLingerMs).toBe(13 * 60_000);
    expect(readConfig({}, nowMs).config.shutdownLingerMs).toBe(0);
    expect(readConfig({ SHUTDOWN_LINGER: "90s" }, nowMs).config.shutdownLingerMs).toBe(90_000);
  });

  test("an issuer and audiences that no token would have room for are refused", () => {
    const audience = `https://${"a".repeat(180)}.example`;
    const refused = "ISSUER and AUDIENCES are too long together: an access token is at most 1 KiB";
    expect(problemsOf({ ISSUER: audience })).toEqual([refused]);
    expect(problemsOf({ ISSUER: "https://id.example", AUDIENCES: `b,${audience}` })).toEqual([]);
  });

  test("an issuer without TLS is refused in production", () => {
    expect(problemsOf({ ...production, ISSUER: "http://id.example" })).toEqual([
      "ISSUER must be an https url in production",
    ]);
  });

  test("a database whose identity is not verified is warned of in production", () => {
    const environment = { ...production, DATABASE_URL: "postgres://db.example/x?sslmode=require" };
    expect(readConfig(environment, nowMs).warnings).toEqual([expect.stringMatching(/^DATABASE_URL /)]);
    const another = { ...production, DATABASE_LISTEN_URL: "postgres://db.example/x" };
    expect(readConfig(another, nowMs).warnings).toEqual([expect.stringMatching(/^DATABASE_LISTEN_URL /)]);
  });

  test("a secret and a secret's file exclude each other", () => {
    const path = join(folder, "other-secret");
    writeFileSync(path, secret);
    expect(problemsOf({ FLEET_SECRET: secret, FLEET_SECRET_FILE: path })[0]).toContain("FLEET_SECRET_FILE");
  });
});
