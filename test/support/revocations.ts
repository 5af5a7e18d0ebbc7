/** Revocations for tests: over HTTP as clients make them, and by SQL as the functions of the schema make them. */

import { randomUUID } from "node:crypto";
import type pg from "pg";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { alice } from "./accounts.ts";

/** Sessions of nobody, which can be ended and nothing else. Returns their ids. */
export async function insertSessions(pool: pg.Pool, count: number): Promise<readonly string[]> {
  const ids = Array.from({ length: count }, () => randomUUID());
  await pool.query(
    `insert into keyfleet.sessions
       (id, client_id, audience, scope, auth_time, expires_at, address, user_agent, secret_id, seal, rotated_at)
     select id, 'first-party', 'a', '', now(), now() + interval '1 day', '', '', '', '', now()
     from unnest($1::uuid[]) id`,
    [ids],
  );
  return ids;
}

export async function endSession(database: Pick<pg.Pool, "query">, sessionId: string): Promise<void> {
  await database.query("select keyfleet.end_session($1, 'logout', null)", [sessionId]);
}

/** Appends entries of so many made-up ids, `living` long (an interval); returns the ids. */
export async function revokeIds(
  pool: Pick<pg.Pool, "query">,
  count: number,
  living = "62 minutes",
): Promise<readonly string[]> {
  const ids = Array.from({ length: count }, () => randomUUID());
  await pool.query("select keyfleet.revoke('session', $1, now(), now() + $2::interval)", [ids, living]);
  return ids;
}

/** Logs alice in. */
export async function logIn(url: string): Promise<TokenResponse> {
  const { username, password } = alice;
  return (await (await post(`${url}/login`, { username, password }, 200)).json()) as TokenResponse;
}

/** Ends the refresh token's session. */
export async function logOut(url: string, refreshToken: string): Promise<void> {
  await post(`${url}/logout`, { refresh_token: refreshToken }, 204);
}

/** Revokes a token of the first party's. */
export async function revokeToken(url: string, token: string): Promise<void> {
  await post(`${url}/revoke`, { token }, 200);
}

/** Asks again where the answer is 503, as clients do. */
async function post(url: string, members: Record<string, string>, expected: number): Promise<Response> {
  const deadlineMs = performance.now() + 20_000;
  for (;;) {
    const response = await fetch(url, { method: "POST", body: new URLSearchParams(members) });
    if (response.status === expected) return response;
    if (response.status !== 503 || performance.now() > deadlineMs) {
      throw new Error(`${url}: ${response.status} ${await response.text()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export async function readLog(
  pool: Pick<pg.Pool, "query">,
): Promise<readonly { number: number; id: string }[]> {
  const { rows } = await pool.query<{ number: number; id: string }>(
    "select number::int, id from keyfleet.revocations order by number",
  );
  return rows;
}
