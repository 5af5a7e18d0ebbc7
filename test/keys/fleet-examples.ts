/** Fleets that every run begins with: what once failed, and whatever chance alone might leave out. */

import type { Action, PlannedSettings } from "./fleet-plan.ts";

const settings: PlannedSettings = {
  schedule: "0 * * * *",
  startsAt: new Date("2026-03-01T10:20:30.500Z"),
  propagationShare: 0.1,
  syncIntervalMs: 500,
  accessTokenTtlMs: 60_000,
  verifyGraceMs: 10_000,
  maxSigners: 16,
  latencyMs: 0,
  seed: 1,
};
const start: Action = { do: "start", jitter: 0.5, slowMs: 0 };
const settle: Action = { do: "advance", of: "interval", share: 2.2 };
const aMoment: Action = { do: "advance", of: "interval", share: 0.5 };
const oneSecond: Action = { do: "advance", of: "second", share: 1 };
const first = { at: 0 } as const;

export const examples: [PlannedSettings, readonly Action[]][] = [
  // Alone it signs at once; of two none has to.
  [settings, [start, { do: "login", ...first }, start, settle, { do: "loginAll" }, oneSecond]],
  // Without a delay every key is mature at once, and none is lent before everybody serves it.
  [{ ...settings, propagationShare: 0 }, [start, start, { do: "loginAll" }, settle, { do: "loginAll" }]],
  // The one who has a place lends to the other, is frozen, and then dies.
  [
    { ...settings, maxSigners: 1 },
    [
      start,
      { do: "advance", of: "period", share: 1.2 },
      start,
      { do: "loginAll" },
      { do: "freeze", ...first, of: "second", share: 3, clockStops: false, endedBy: null },
      { do: "kill", ...first },
      { do: "advance", of: "second", share: 3 },
      { do: "loginAll" },
      { do: "advance", of: "period", share: 0.2 },
      { do: "loginAll" },
    ],
  ],
  // A key that signed at the very moment of its activation, and is ended in that same moment.
  [settings, [start, { do: "login", ...first }, { do: "stop", ...first }, start]],
  // The next key of a stopped instance leaves everybody's JWKS at once, the current one after its last token.
  [
    settings,
    [
      start,
      start,
      settle,
      { do: "loginAll" },
      { do: "stop", ...first },
      oneSecond,
      { do: "advance", of: "lifetime", share: 1.5 },
    ],
  ],
  // A signer is killed, another is cut off, and a backup is restored.
  [
    settings,
    [
      start,
      start,
      settle,
      { do: "loginAll" },
      { do: "kill", ...first },
      oneSecond,
      { do: "cutAll" },
      oneSecond,
      { do: "lose", newest: 4 },
      { do: "mendAll" },
      start,
      oneSecond,
      { do: "advance", of: "period", share: 2.5 },
    ],
  ],
  // A restored backup comes to the version that others have read, by a newcomer's keys.
  [
    settings,
    [
      start,
      start,
      settle,
      ...[0, 1].map((at): Action => ({ do: "cut", at, afterStatements: 0, answerLost: false })),
      { do: "lose", newest: 2 },
      start,
      { do: "mendAll" },
      settle,
      { do: "loginAll" },
    ],
  ],
  // A backup is restored that has no record of what a key signed, and then its owner stops.
  [
    settings,
    [
      start,
      start,
      settle,
      { do: "loginAll" },
      { do: "lose", newest: 4 },
      settle,
      { do: "stop", ...first },
      oneSecond,
    ],
  ],
  // Two logins and a stop of the same instance at once.
  [
    settings,
    [
      start,
      start,
      settle,
      {
        do: "race",
        at: 0,
        steps: [
          { what: "login", next: 0 },
          { what: "stop", next: 0 },
          { what: "login", next: 0 },
        ],
        waitMs: 900,
        keysAreDue: false,
      },
      oneSecond,
    ],
  ],
  // Whoever finds itself alone after a long sleep signs with a new key, and serves that itself, whichever comes first.
  ...[[], [aMoment]].map((before): [PlannedSettings, readonly Action[]] => [
    settings,
    [
      start,
      ...before,
      { do: "freeze", ...first, of: "period", share: 2.5, clockStops: false, endedBy: null },
      aMoment,
      { do: "login", ...first },
    ],
  ]),
  // An instance sleeps while it is ended, and is asked for a token before it knows.
  [
    settings,
    [
      start,
      start,
      settle,
      { do: "loginAll" },
      { do: "freeze", ...first, of: "second", share: 3, clockStops: false, endedBy: 1 },
      oneSecond,
    ],
  ],
  // Two publish at once, and the first commit is the slower one.
  [
    settings,
    [
      start,
      start,
      {
        do: "race",
        at: 0,
        steps: [
          { what: "beat", next: 0 },
          { what: "beat", next: 1 },
        ],
        waitMs: 300,
        keysAreDue: true,
      },
      oneSecond,
    ],
  ],
  // The database goes away between the reading of the version and the reading of the keys.
  ...[1, 2].map((afterStatements): [PlannedSettings, readonly Action[]] => [
    settings,
    [
      start,
      start,
      settle,
      { do: "cut", ...first, afterStatements, answerLost: false },
      start,
      oneSecond,
      { do: "mendAll" },
      settle,
    ],
  ]),
  // A backup lacks a key whose owner never learned that it was published, and tries again when that period is over.
  [
    {
      ...settings,
      schedule: "0 0 * * 0",
      startsAt: new Date("2026-01-01T00:00:00.000Z"),
      propagationShare: 0,
      syncIntervalMs: 50,
      accessTokenTtlMs: 1000,
      verifyGraceMs: 86_400_000,
      seed: 0,
    },
    [
      start,
      { do: "freeze", ...first, of: "period", share: 1.429, clockStops: false, endedBy: null },
      { do: "cut", ...first, afterStatements: 3, answerLost: true },
      { do: "loginAll" },
      { do: "start", jitter: 0, slowMs: 0 },
      {
        do: "race",
        ...first,
        steps: [
          { what: "login", next: 0 },
          { what: "login", next: 0 },
        ],
        waitMs: 0,
        keysAreDue: true,
      },
      { do: "lose", newest: 1 },
      { do: "mendAll" },
      { do: "advance", of: "period", share: 0.043 },
    ],
  ],
  // A key that was published late matures when its period has begun; a statement sent before that may come after.
  [
    { ...settings, schedule: "*/30 * * * * *", propagationShare: 0.95 },
    [
      start,
      start,
      { do: "advance", of: "period", share: 2 },
      { do: "boundary", offsetMs: -100 },
      { do: "cut", at: 1, afterStatements: 0, answerLost: false },
      { do: "advance", of: "second", share: 2.2 },
      { do: "mendAll" },
      aMoment,
      { do: "boundary", offsetMs: -200 },
      { do: "login", at: 1, heldUpMs: 400 },
    ],
  ],
  // The epoch begins in the very moment in which the key does that signed a token of which no record is left.
  [
    { ...settings, schedule: "* * * * * *", startsAt: new Date("2026-01-01T00:00:00.000Z"), latencyMs: 0 },
    [start, { do: "loginAll" }, { do: "lose", newest: 1 }, { do: "stop", ...first }],
  ],
];
