/** The documents' tables are the code's. */

import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import { errorMeanings } from "../src/errors.ts";
import { statusByCode } from "../src/http/error-response.ts";
import { createMetrics } from "../src/metrics.ts";
import { settings } from "../src/settings.ts";
import { verificationMessages } from "../src/verifier/errors.ts";

const root = new URL("../", import.meta.url);
const read = (path: string) => readFileSync(new URL(path, root), "utf8");

/** The cells of every row of every table in a document. */
function rowsOf(path: string): string[][] {
  return read(path)
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) =>
      line
        .slice(1, -1)
        .split("|")
        .map((cell) => cell.trim()),
    );
}

test("every setting is documented with its default and what it takes", () => {
  const perMachine = new Set(["HASH_WORKERS"]);
  const documented = rowsOf("docs/settings.md");
  const expected = Object.values(settings).map(({ name, default: text = "", takes }) => {
    const shown = text === "" ? "" : `\`${text}\``;
    return [`\`${name}\``, perMachine.has(name) ? "one a core" : shown, takes];
  });
  expect(documented).toEqual(expected);
});

test("every error is documented with its status and meaning", () => {
  const documented = rowsOf("docs/http.md").filter(([, status]) => /^\d{3}$/.test(status ?? ""));
  const expected = Object.entries(errorMeanings).map(([code, meaning]) => [
    `\`${code}\``,
    String(statusByCode[code as keyof typeof statusByCode]),
    meaning,
  ]);
  expect(documented).toEqual(expected);
});

test("every metric of ours is documented with its help", async () => {
  const metrics = await createMetrics().registry.getMetricsAsJSON();
  const expected = metrics
    .filter(({ name }) => name.startsWith("keyfleet_"))
    .map(({ name, help }) => [`\`${name}\``, help]);
  expect(rowsOf("docs/running.md")).toEqual(expected);
});

test("every route is documented, and none that is not there", () => {
  const source = read("src/http/routes.ts") + read("src/protocol/metadata.ts");
  const documented = rowsOf("docs/http.md")
    .map(([request = ""]) => /^`(GET|POST|DELETE) (\/\S*)`$/.exec(request)?.[2])
    .filter((path) => path !== undefined);
  for (const path of documented) expect(source).toContain(path.replace(/\/:(kid|id)/, ""));
  const inCode = [...source.matchAll(/"(\/[a-z.][\w./:-]*)"/g)].map((match) => match[1] ?? "");
  const prefixes = new Set(["/.well-known/"]);
  for (const path of inCode) expect([...documented, ...prefixes]).toContain(path);
});

test("every code of the verifier is documented with its message", () => {
  const documented = rowsOf("docs/verifying.md").filter(
    ([code = ""]) => code.slice(1, -1) in verificationMessages,
  );
  const expected = Object.entries(verificationMessages).map(([code, message]) => [`\`${code}\``, message]);
  expect(documented.map(([code, message]) => [code, message])).toEqual(expected);
});

test("every guard of an invariant is documented with its file and its test", () => {
  const rows = read("docs/invariants.md").split("\n");
  const guards = JSON.parse(read("test/guards/guards.json")) as Record<
    "invariant" | "file" | "from" | "test",
    string
  >[];
  for (const { invariant, file, from, test: path } of guards) {
    const row = rows.find((line) => line.startsWith(`| ${invariant} |`)) ?? "";
    expect(row).toContain(`\`${file}\``);
    expect(row).toContain(`\`${path}\``);
    expect(read(file)).toContain(from);
  }
});

describe("links and paths", () => {
  const documents = ["README.md", ...readdirSync(new URL("docs/", root)).map((name) => `docs/${name}`)];

  test.each(documents)("in %s lead somewhere", (path) => {
    const base = new URL(path, root);
    const text = read(path);
    for (const [, target = ""] of text.matchAll(/\]\((?!https?:)([^)#]+)\)/g)) {
      expect(() => readFileSync(new URL(target, base))).not.toThrow();
    }
    for (const [, target = ""] of text.matchAll(/`((?:test|src|migrations)\/[\w./-]+\.(?:ts|sql))`/g)) {
      expect(() => readFileSync(new URL(target, root))).not.toThrow();
    }
  });
});
