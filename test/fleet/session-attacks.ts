/** What somebody does to sessions and clients who may write anything into the database. */

import { randomBytes } from "node:crypto";
import type pg from "pg";
import { createFleetSecrets } from "../../src/fleet-secret.ts";
import { timestamp, typeParsers } from "../../src/postgres/pool.ts";
import { bytea, sealColumns } from "../../src/postgres/records.ts";
import { type SessionRow, sessionColumns, toSession } from "../../src/postgres/session-row.ts";
import { type Session, sealRefreshState, sealSession } from "../../src/sessions/session.ts";
import { createRefreshToken, encodeRefreshToken, hashRefreshToken } from "../../src/tokens/refresh-token.ts";
import { testSecrets } from "../support/accounts.ts";

/** Of another fleet, which the forger has set up. */
export const forgersSecrets = createFleetSecrets(randomBytes(32));

/** Columns by what guards them. */
export const facts = "account_id, client_id, audience, scope, auth_time, expires_at";
export const factsSeal = "secret_id, seal";
export const moving =
  "generation, refresh_hash, parent_hash, rotated_at, rotation_salt, rotation_secret_id, grace_uses, rotation_times";
export const movingSeal = "refresh_seal_secret_id, refresh_seal";

/** Each of the two rows gets these columns of the other. */
export const swap = (columns: string) =>
  `update keyfleet.sessions s set (${columns}) =
     (select ${columns} from keyfleet.sessions o where o.id <> s.id and o.id in ({alice}, {mallory}))
   where s.id in ({alice}, {mallory})`;

/** Mallory's row gets these columns of alice's. */
export const copyToMallory = (columns: string) =>
  `update keyfleet.sessions set (${columns}) = (select ${columns} from keyfleet.sessions where id = {alice})
   where id = {mallory}`;

export const setAtMallory = (change: string) => `update keyfleet.sessions set ${change} where id = {mallory}`;

/** Writes the ids of the two sessions into a statement that names them so. */
export function between(sql: string, alice: string, mallory: string): string {
  return sql.replaceAll("{alice}", `'${alice}'`).replaceAll("{mallory}", `'${mallory}'`);
}

export interface MadeUpToken {
  readonly text: string;
  /** As a bytea literal. */
  readonly hash: string;
}

/** Of this session: in the right form, with a hash that fits, and a tag of the forger's own. */
export function madeUpToken(sessionId: string, generation = 0): MadeUpToken {
  const token = { ...createRefreshToken(sessionId), generation };
  const hash = `'${bytea(hashRefreshToken(token))}'::bytea`;
  return { text: encodeRefreshToken(forgersSecrets, token), hash };
}

export async function readSession(pool: pg.Pool, id: string): Promise<Session> {
  const { rows } = await pool.query<SessionRow>({
    text: `select ${sessionColumns("s")} from keyfleet.sessions s where id = $1`,
    values: [id],
    types: typeParsers,
  });
  if (rows[0] === undefined) throw new Error("there is no such session");
  return toSession(rows[0]);
}

export async function insertSession(pool: pg.Pool, session: Session): Promise<void> {
  const { refresh } = session;
  const record = {
    id: session.id,
    account_id: session.accountId,
    client_id: session.clientId,
    audience: session.audience,
    scope: session.scope,
    auth_time: timestamp(session.authTimeMs),
    expires_at: timestamp(session.expiresAtMs),
    ...{ address: "", user_agent: "", rotated_at: timestamp(refresh?.rotatedAtMs ?? session.authTimeMs) },
    ...sealColumns(session.seal),
    refresh_hash: refresh && bytea(refresh.refreshHash),
    refresh_seal_secret_id: refresh?.seal.secretId,
    refresh_seal: refresh && bytea(refresh.seal.seal),
  };
  await pool.query("select keyfleet.insert_session(jsonb_populate_record(null::keyfleet.sessions, $1))", [
    record,
  ]);
}

/** A session like `model`, with another id and a refresh token that the forger has. */
export function forgeSession(
  model: Session,
  seals: "random" | "copied" | "forger's" | "forger's, said to be ours" | "ours",
) {
  const token = createRefreshToken(crypto.randomUUID());
  const { refresh } = model;
  if (refresh === null) throw new Error("a model has a refresh token");
  const state = { ...refresh, generation: 0, refreshHash: hashRefreshToken(token) };
  const unsealed = { ...model, id: token.sessionId, refresh: state };
  const secretId = testSecrets.current.id;
  const sealedUnder = (secrets: typeof testSecrets): Session => ({
    ...unsealed,
    seal: sealSession(secrets, unsealed),
    refresh: { ...state, seal: sealRefreshState(secrets, token.sessionId, state) },
  });
  const random = () => ({ secretId, seal: randomBytes(32) });
  const makers = {
    random: (): Session => ({ ...unsealed, seal: random(), refresh: { ...state, seal: random() } }),
    copied: (): Session => unsealed,
    "forger's": () => sealedUnder(forgersSecrets),
    "forger's, said to be ours": (): Session => {
      const sealed = sealedUnder(forgersSecrets);
      const seal = { ...sealed.seal, secretId };
      return {
        ...sealed,
        seal,
        refresh: sealed.refresh && { ...sealed.refresh, seal: { ...sealed.refresh.seal, secretId } },
      };
    },
    ours: () => sealedUnder(testSecrets),
  };
  return { session: makers[seals](), token: encodeRefreshToken(forgersSecrets, token) };
}
