/** The layout holds: who may import whom, what may be called where, and how long a file may get. */

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "@jest/globals";

const sourceRoot = fileURLToPath(new URL("../src/", import.meta.url));

const migrationsRoot = fileURLToPath(new URL("../migrations/", import.meta.url));
const migrations = readdirSync(migrationsRoot)
  .map((name) => readFileSync(join(migrationsRoot, name), "utf8"))
  .join("\n");

/** A file imports only from lower ranks, or from its own folder. Files directly in src/ share one folder a rank. */
const ranks: Readonly<Record<string, number>> = {
  "protocol/": 0,
  "audit.ts": 0,
  "batch.ts": 0,
  "clock.ts": 0,
  "encryption.ts": 0,
  "errors.ts": 0,
  "fleet-secret.ts": 0,
  "logger.ts": 0,
  "metrics.ts": 0,
  "seal.ts": 0,
  "accounts/": 1,
  "clients/": 1,
  "fleet/": 1,
  "keys/": 1,
  "revocation/": 1,
  "tokens/": 2,
  "verifier/": 1,
  "sessions/": 3,
  "postgres/": 4,
  "http/": 5,
  "app.ts": 6,
  "background.ts": 6,
  "config.ts": 6,
  "development.ts": 6,
  "join-fleet.ts": 6,
  "report.ts": 6,
  "services.ts": 6,
  "signature-loans.ts": 6,
  "settings.ts": 6,
  "gateway/": 6,
  "cli/": 7,
  "main.ts": 8,
};

interface SourceFile {
  readonly path: string;
  readonly text: string;
  /** Paths below src/ of what it imports of ours. */
  readonly imports: readonly string[];
  readonly packages: readonly string[];
}

const files: readonly SourceFile[] = readdirSync(sourceRoot, { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".ts"))
  .map((path) => {
    const text = readFileSync(join(sourceRoot, path), "utf8");
    const specifiers = [
      ...text.matchAll(
        /^(?:import|export)\b[^;]*?from "([^"]+)";|^import "([^"]+)";|\bimport\("([^"]+)"\)/gm,
      ),
    ].map((match) => match[1] ?? match[2] ?? match[3] ?? "");
    const isOurs = (specifier: string) => specifier.startsWith(".");
    return {
      path,
      text,
      imports: specifiers.filter(isOurs).map((specifier) => normalize(join(dirname(path), specifier))),
      packages: specifiers.filter((specifier) => !isOurs(specifier)).map(packageOf),
    };
  });

/** Of Node's own modules, the module. */
function packageOf(specifier: string): string {
  return /^(node:.+|(@[^/]+\/)?[^/]+)/.exec(specifier)?.[0] ?? specifier;
}

const folderOf = (path: string) => (path.includes("/") ? `${path.split("/")[0]}/` : "");
const rankOf = (path: string) => ranks[folderOf(path) || path];

/** Violations as `path: what`, so that a failure names them. */
function violations(find: (file: SourceFile) => readonly string[]): readonly string[] {
  return files.flatMap((file) => find(file).map((what) => `${file.path}: ${what}`));
}

describe("imports", () => {
  test("every file has a rank", () => {
    expect(files.length).toBeGreaterThan(50);
    expect(violations(({ path }) => (rankOf(path) === undefined ? ["has no rank"] : []))).toEqual([]);
  });

  test("are seen where they are made only when needed, too", () => {
    expect(files.find(({ path }) => path === "cli/token.ts")?.imports).toContain("cli/inspect-token.ts");
    expect(files.find(({ path }) => path === "postgres/migrate.ts")?.packages).toContain("node-pg-migrate");
  });

  test("go to lower ranks or stay in their folder", () => {
    const isAllowed = (from: string, to: string) => {
      const [fromRank = -1, toRank = 99] = [rankOf(from), rankOf(to)];
      return toRank < fromRank || (toRank === fromRank && folderOf(from) === folderOf(to));
    };
    expect(
      violations(({ path, imports }) =>
        imports.filter((to) => !isAllowed(path, to)).map((to) => `imports ${to}`),
      ),
    ).toEqual([]);
  });

  test("form no cycle", () => {
    const importsOf = new Map(files.map((file) => [file.path, file.imports]));
    const done = new Set<string>();
    const cycles: string[] = [];
    const visit = (path: string, trail: readonly string[]) => {
      if (trail.includes(path)) cycles.push([...trail.slice(trail.indexOf(path)), path].join(" -> "));
      if (done.has(path)) return;
      done.add(path);
      for (const to of importsOf.get(path) ?? []) visit(to, [...trail, path]);
    };
    for (const { path } of files) visit(path, []);
    expect(cycles).toEqual([]);
  });

  test("packages stay where they belong", () => {
    const homes: Readonly<Record<string, RegExp>> = {
      pg: /^postgres\//,
      "node-pg-migrate": /^postgres\//,
      "rate-limiter-flexible": /^postgres\//,
      express: /^http\//,
      helmet: /^http\//,
      cors: /^http\//,
      bcrypt: /^accounts\/password-worker\.ts$/,
      piscina: /^accounts\/password-hasher\.ts$/,
      commander: /^cli\//,
      "prom-client": /^(metrics|gateway\/gateway-metrics)\.ts$/,
      pino: /^logger\.ts$/,
      "node-cron": /^(keys\/period-schedule|background)\.ts$/,
      jose: /^(verifier\/|(cli\/inspect-token|tokens\/verify-access-token)\.ts$)/,
    };
    expect(
      violations(({ path, packages }) =>
        packages
          .filter((name) => homes[name] !== undefined && !homes[name].test(path))
          .map((name) => `imports ${name}`),
      ),
    ).toEqual([]);
  });

  test("the wire's vocabulary needs nothing of Node, and the verifier that and jose alone", () => {
    const isOutside = (path: string, name: string) =>
      path.startsWith("protocol/") || (path.startsWith("verifier/") && name !== "jose");
    expect(violations(({ path, packages }) => packages.filter((name) => isOutside(path, name)))).toEqual([]);
    const beyond = violations(({ path, imports }) =>
      path.startsWith("verifier/") ? imports.filter((to) => !/^(protocol|verifier)\//.test(to)) : [],
    );
    expect(beyond).toEqual([]);
  });
});

describe("calls", () => {
  const onlyIn = (pattern: RegExp, home: RegExp) =>
    violations(({ path, text }) => (home.test(path) ? [] : (text.match(pattern) ?? []).slice(0, 1)));

  test("no file asks the process's own calendar", () => {
    expect(onlyIn(/\bDate\.now\(|\bnew Date\(\)/, /^verifier\/clock\.ts$/)).toEqual([]);
  });

  test("only config.ts reads the environment", () => {
    expect(onlyIn(/process\.env/, /^config\.ts$/)).toEqual([]);
  });

  test("only commands write to the console", () => {
    expect(onlyIn(/\bconsole\.\w+\(/, /^cli\//)).toEqual([]);
  });

  test("private keys are made and used in one file", () => {
    expect(onlyIn(/generateKeyPair|\bsign\(null/, /^keys\/signing-key\.ts$/)).toEqual([]);
  });

  test("SQL is written in postgres/ alone", () => {
    const made = [...migrations.matchAll(/^create (?:table|function|type) keyfleet\.(\w+)/gm)].map(
      ([, name]) => name,
    );
    expect(made).toEqual(expect.arrayContaining(["signing_keys", "clients", "revoke"]));
    expect(onlyIn(new RegExp(`\\bkeyfleet\\.(${made.join("|")})\\b`), /^postgres\//)).toEqual([]);
  });

  test("SQL asks the clock that no search path can replace", () => {
    const replaceable = /(?<!pg_catalog\.)\bclock_timestamp\(\)/;
    expect(onlyIn(replaceable, /^$/)).toEqual([]);
    expect(onlyIn(/(?<!\.)\bnow\(\)/, /^(?!postgres\/)/)).toEqual([]);
    expect(migrations).toContain("clock_timestamp()");
    expect(migrations).not.toMatch(replaceable);
  });
});

describe("files", () => {
  test("stay under 300 lines", () => {
    const tooLong = ({ text }: SourceFile) => (text.split("\n").length > 300 ? ["is too long"] : []);
    expect(violations(tooLong)).toEqual([]);
  });

  test("open with a sentence that says what they own", () => {
    const opening = /^(#!.*\n)?\/\*\*/;
    expect(violations(({ text }) => (opening.test(text) ? [] : ["has no opening sentence"]))).toEqual([]);
  });

  test("export nothing that is named nowhere else", () => {
    const mentions = new Map<string, number>();
    for (const [word] of files.flatMap(({ text }) => [...text.matchAll(/\w+/g)])) {
      mentions.set(word, (mentions.get(word) ?? 0) + 1);
    }
    const exported = /^export (?:async )?(?:function|const|class|interface|type) (\w+)/gm;
    expect(
      violations(({ text }) =>
        [...text.matchAll(exported)].flatMap(([, name = ""]) => (mentions.get(name) === 1 ? [name] : [])),
      ),
    ).toEqual([]);
  });

  test("leave nothing behind", () => {
    expect(onlyLeftovers()).toEqual([]);
  });

  function onlyLeftovers(): readonly string[] {
    return violations(
      ({ text }) => text.match(/\b(TODO|FIXME|XXX)\b|@ts-(ignore|expect-error|nocheck)/) ?? [],
    );
  }
});

test("paths are kebab-case", () => {
  const odd = files
    .map(({ path }) => relative(".", path))
    .filter((path) => !/^([a-z0-9-]+\/)*[a-z0-9-]+\.ts$/.test(path));
  expect(odd).toEqual([]);
});
