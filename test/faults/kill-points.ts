/** Where an instance is killed: at a statement of its own, which the database has not seen yet, or has just committed. */

import type { Strike } from "../support/statement-proxy.ts";

export interface KillPoint {
  readonly strike: Strike;
  /** A piece of the statement's text. */
  readonly text: string;
}

const statements = {
  "a login": "keyfleet.start_session(",
  "a refresh": "keyfleet.refresh_session(",
  "a logout": "keyfleet.end_session",
  "a revocation": "keyfleet.revoke_token(",
  "a publication": "keyfleet.publish_key(",
  // The borrower's, which asks, or the lender's, which answers.
  "a loan": "pg_notify(channel, message)",
} as const;

const sides = { before: "hold", after: "swallow" } as const;

export type KillPointName = `${keyof typeof sides} ${keyof typeof statements}`;

export const killPoints: ReadonlyMap<KillPointName, KillPoint> = new Map(
  Object.entries(sides).flatMap(([side, strike]) =>
    Object.entries(statements).map(([name, text]) => [`${side} ${name}` as KillPointName, { strike, text }]),
  ),
);
