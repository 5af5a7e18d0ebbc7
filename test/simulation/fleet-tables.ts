/** What the simulation measured, as the tables of docs/fleet.md. */

import { secondMs } from "../../src/clock.ts";
import { percentile } from "../support/percentile.ts";
import type { Outcome } from "./scenarios.ts";
import { type StatementKind, statementKinds } from "./statement-load.ts";

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

/** How many keys there were half of the time. */
function medianKeys({ samples, endMs }: Outcome): number {
  const spans = samples.map((sample, index) => ({
    keys: sample.keys,
    spanMs: (samples[index + 1]?.atMs ?? endMs) - sample.atMs,
  }));
  spans.sort((a, b) => a.keys - b.keys);
  const halfMs = spans.reduce((sum, { spanMs }) => sum + spanMs, 0) / 2;
  let passedMs = 0;
  for (const { keys, spanMs } of spans) {
    passedMs += spanMs;
    if (passedMs >= halfMs) return keys;
  }
  return 0;
}

export function sizeTable(outcomes: readonly Outcome[]): string {
  const most = (values: readonly number[]) => String(Math.max(...values));
  const rows = outcomes.map((outcome) => {
    const { name, samples } = outcome;
    return [
      name,
      `${Math.min(...samples.map(({ instances }) => instances))} to ${most(samples.map(({ instances }) => instances))}`,
      String(medianKeys(outcome)),
      most(samples.map(({ keys }) => keys)),
      most(samples.map(({ bytes }) => bytes)),
      `${Math.min(...samples.map(({ signers }) => signers))} to ${most(samples.map(({ signers }) => signers))}`,
      String(Math.min(...samples.map(({ matureSigners }) => matureSigners))),
    ];
  });
  return table(
    ["", "instances", "keys, median", "keys, most", "bytes, most", "signers", "mature signers, least"],
    rows,
  );
}

export function loadTable(
  outcomes: readonly Outcome[],
  costsMs: Partial<Record<StatementKind, number>>,
): string {
  const kinds = Object.keys(statementKinds) as StatementKind[];
  const shown = (rate: number) => (rate === 0 ? "0" : rate.toFixed(rate > 0.01 ? 2 : 6));
  const perSecond = ({ statements, instanceSeconds }: Outcome, kind: StatementKind) =>
    statements[kind] / instanceSeconds;
  const rows = kinds.map((kind) => [
    statementKinds[kind],
    ...outcomes.map((outcome) => shown(perSecond(outcome, kind))),
    costsMs[kind]?.toFixed(2) ?? "",
  ]);
  const sum = (outcome: Outcome, weight = (_: StatementKind) => 1) =>
    kinds.reduce((total, kind) => total + perSecond(outcome, kind) * weight(kind), 0);
  rows.push(["all", ...outcomes.map((outcome) => shown(sum(outcome))), ""]);
  const busyMs = outcomes.map((outcome) => sum(outcome, (kind) => costsMs[kind] ?? 0));
  rows.push(["ms of work a second", ...busyMs.map(shown), ""]);
  return table(["statements a second, an instance", ...outcomes.map(({ name }) => name), "ms each"], rows);
}

export function timeTable(measured: {
  readonly pollingMs: readonly number[];
  readonly toldAtOnceMs: number;
  readonly outcomes: readonly Outcome[];
  readonly crash: Outcome;
}): string {
  const seconds = (ms: number) => (ms / secondMs).toFixed(ms < 10 * secondMs ? 2 : 0);
  const row = (what: string, valuesMs: readonly number[]) => [
    what,
    seconds(percentile(valuesMs, 50)),
    seconds(Math.max(...valuesMs)),
  ];
  const deaths = measured.outcomes.flatMap((outcome) => outcome.deaths);
  const known = (values: readonly number[]) => values.filter(Number.isFinite);
  const lastKill = Math.max(...measured.crash.deaths.map(({ atMs }) => atMs));
  const steadyAgain = measured.crash.samples.find(
    ({ atMs, outlived, signers }) => atMs > lastKill && outlived.size === 0 && signers === 16,
  );
  return table(
    ["seconds", "median", "most"],
    [
      row("a key's commit until an instance serves it, notifications lost", measured.pollingMs),
      ["a key's commit until all serve it, all told at once", "", seconds(measured.toldAtOnceMs)],
      row(
        "a signer's death until another has its place",
        known(deaths.map(({ placeTakenMs }) => placeTakenMs)),
      ),
      row(
        "a signer's death until its keys have left the JWKS",
        known(deaths.map(({ forgottenMs }) => forgottenMs)),
      ),
      [
        "the last signer's death in 200 kills until the JWKS is that of 16 signers",
        "",
        seconds((steadyAgain?.atMs ?? Number.NaN) - lastKill),
      ],
    ],
  );
}
