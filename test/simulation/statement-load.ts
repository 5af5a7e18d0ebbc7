/** What a fleet asks of its database: statements by kind, counted where they are sent, and reckoned where they are not. */

export const statementKinds = {
  state: "reading the fleet's state",
  list: "reading the keys",
  beat: "heartbeat",
  look: "looking for the lost",
  place: "asking for a place",
  publication: "publishing a key",
  join: "joining",
  leave: "leaving",
  probe: "probe of LISTEN",
  prune: "pruning",
} as const;
export type StatementKind = keyof typeof statementKinds;

export type StatementCounts = Record<StatementKind, number>;

export function noStatements(): StatementCounts {
  return Object.fromEntries(Object.keys(statementKinds).map((kind) => [kind, 0])) as StatementCounts;
}

/** What the timers of `background.ts`, `fleet-sync.ts` and `listen.ts` send, statements a second. */
export const perSecond = { beat: 1 / 5, look: 1 / 10, probe: 1 / 5, prune: 8 / 300 } as const;

/**
 * What instances send for certain, whatever the database answers: it is not sent for real, for the answer of each is known
 * and changes nothing. A notification has the state read at once, and counts as a reading more.
 */
export function reckonTimers(
  counts: StatementCounts,
  instanceSeconds: number,
  notificationsHeard: number,
  syncIntervalMs: number,
): StatementCounts {
  const timers = Object.entries(perSecond).map(([kind, rate]) => [kind, rate * instanceSeconds]);
  return {
    ...counts,
    ...Object.fromEntries(timers),
    state: (instanceSeconds * 1000) / syncIntervalMs + notificationsHeard,
    list: notificationsHeard,
  };
}
