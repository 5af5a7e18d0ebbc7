/** The size of the JWKS over time as an SVG: one panel a scenario, drawn from the samples and from nothing else. */

import { dayMs, hourMs, minuteMs } from "../../src/clock.ts";
import type { Outcome } from "./scenarios.ts";

const panel = { width: 168, height: 150, gap: 18, left: 34, top: 34 };
const mostKeys = 100;
const limit = 90;

function durationText(ms: number): string {
  const units: [number, string][] = [
    [dayMs, "d"],
    [hourMs, "h"],
    [minuteMs, "min"],
  ];
  const [unitMs, unit] = units.find(([size]) => ms >= size) ?? [minuteMs, "min"];
  return `${+(ms / unitMs).toFixed(1)} ${unit}`;
}

const y = (keys: number) => +(panel.top + panel.height * (1 - keys / mostKeys)).toFixed(1);

/** The most keys in each column of pixels; where nothing changed, those of before. */
function columns({ samples, startMs, endMs }: Outcome): readonly number[] {
  const most: number[] = [];
  let next = 0;
  let current = samples[0]?.keys ?? 0;
  for (let column = 0; column < panel.width; column += 1) {
    const untilMs = startMs + ((column + 1) / panel.width) * (endMs - startMs);
    let highest = current;
    for (; (samples[next]?.atMs ?? Number.POSITIVE_INFINITY) < untilMs; next += 1) {
      current = samples[next]?.keys ?? current;
      highest = Math.max(highest, current);
    }
    most.push(highest);
  }
  return most;
}

function drawPanel(outcome: Outcome, index: number): string {
  const x = panel.left + index * (panel.width + panel.gap);
  const most = columns(outcome);
  const points = most.flatMap((keys, column) =>
    keys === most[column - 1] && keys === most[column + 1] ? [] : [`${x + column},${y(keys)}`],
  );
  const bottom = panel.top + panel.height;
  return `
  <text x="${x}" y="${panel.top - 14}" class="name">${outcome.name}</text>
  <rect x="${x}" y="${panel.top}" width="${panel.width}" height="${panel.height}" class="frame"/>
  <line x1="${x}" x2="${x + panel.width}" y1="${y(limit)}" y2="${y(limit)}" class="limit"/>
  <polyline points="${points.join(" ")}" class="keys"/>
  <text x="${x}" y="${bottom + 14}">0</text>
  <text x="${x + panel.width}" y="${bottom + 14}" text-anchor="end">${durationText(outcome.endMs - outcome.startMs)}</text>`;
}

export function drawPlot(outcomes: readonly Outcome[]): string {
  const width = panel.left + outcomes.length * (panel.width + panel.gap);
  const height = panel.top + panel.height + 24;
  const ticks = [0, 25, 50, 75, 100].map(
    (keys) => `<text x="${panel.left - 5}" y="${y(keys) + 4}" text-anchor="end">${keys}</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="Keys in the JWKS over time">
  <style>
    svg { background: #fff }
    text { font: 11px sans-serif; fill: #444 }
    .name { font-weight: bold; fill: #111 }
    .frame { fill: none; stroke: #bbb }
    .limit { stroke: #c33; stroke-dasharray: 4 3 }
    .keys { fill: none; stroke: #1668b5; stroke-width: 1.5 }
  </style>
  ${ticks.join("\n  ")}${outcomes.map(drawPanel).join("")}
</svg>
`;
}
