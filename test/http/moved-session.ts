/** A session whose times are moved, sealed anew as an instance would have, so that its ends are met without waiting. */

import { timestamp, typeParsers } from "../../src/postgres/pool.ts";
import { type SessionRow, sessionColumns, toSession } from "../../src/postgres/session-row.ts";
import { sealRefreshState, sealSession } from "../../src/sessions/session.ts";
import { testSecrets } from "../support/accounts.ts";
import type { TestDatabase } from "../support/database.ts";

export interface MovedTimes {
  /** How long ago its refresh token was made. */
  readonly usedAgoMs?: number;
  /** How long it has until its absolute end. */
  readonly endsInMs?: number;
}

export async function moveSession({ pool }: TestDatabase, id: string, times: MovedTimes): Promise<void> {
  const { rows } = await pool.query<SessionRow & { now: number }>({
    text: `select ${sessionColumns("s")}, clock_timestamp() as now from keyfleet.sessions s where id = $1`,
    values: [id],
    types: typeParsers,
  });
  const [row] = rows;
  const session = row && toSession(row);
  if (row === undefined || !session?.refresh) throw new Error("there is no such session");
  const { usedAgoMs, endsInMs } = times;
  const facts = {
    ...session,
    expiresAtMs: endsInMs === undefined ? session.expiresAtMs : row.now + endsInMs,
  };
  const { refresh } = session;
  const state = {
    ...refresh,
    rotatedAtMs: usedAgoMs === undefined ? refresh.rotatedAtMs : row.now - usedAgoMs,
  };
  await pool.query(
    `update keyfleet.sessions set expires_at = $2, seal = $3, rotated_at = $4, refresh_seal = $5 where id = $1`,
    [
      id,
      timestamp(facts.expiresAtMs),
      sealSession(testSecrets, facts).seal,
      timestamp(state.rotatedAtMs),
      sealRefreshState(testSecrets, id, state).seal,
    ],
  );
}
