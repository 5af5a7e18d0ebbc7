/** What somebody does to a database who may do anything there. */

import type pg from "pg";
import type { Account } from "../../src/accounts/account.ts";
import type { PublishedKey } from "../../src/keys/published-key.ts";

/** Takes away what the schema itself refuses: from here on only instances can tell. */
export async function disarm(pool: pg.Pool): Promise<void> {
  await pool.query(`
    alter table keyfleet.signing_keys disable trigger signing_keys_are_facts;
    do $$ declare guard record; begin
      for guard in select conrelid::regclass as guarded, conname from pg_constraint
        where conrelid in ('keyfleet.signing_keys'::regclass, 'keyfleet.accounts'::regclass)
          and contype in ('c', 'f', 'p', 'u')
      loop
        execute format('alter table %s drop constraint %I cascade', guard.guarded, guard.conname);
      end loop;
    end $$`);
}

export async function insertKey(pool: pg.Pool, key: PublishedKey): Promise<void> {
  const times = [key.publishedAtMs, key.activatesAtMs, key.retiresAtMs, key.expiresAtMs];
  await pool.query(
    `insert into keyfleet.signing_keys
       (kid, instance_id, alg, x, published_at, activates_at, retires_at, expires_at, secret_id, seal)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
    [
      key.kid,
      key.instanceId,
      key.alg,
      key.x,
      ...times.map((timeMs) => new Date(timeMs)),
      key.seal.secretId,
      key.seal.seal,
    ],
  );
}

export async function insertAccount(pool: pg.Pool, account: Account): Promise<void> {
  const { id, username, password, scopes, enabled, mustChangePassword, version, seal } = account;
  await pool.query(
    `insert into keyfleet.accounts
       (id, username, password, scopes, enabled, must_change_password, version, secret_id, seal)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
    [id, username, password, scopes, enabled, mustChangePassword, version, seal.secretId, seal.seal],
  );
}

/** A row's columns as they are now, to be put back. */
export async function keepColumns(
  pool: pg.Pool,
  table: string,
  columns: string,
  id: string,
): Promise<() => Promise<unknown>> {
  const { rows } = await pool.query(`select to_jsonb(t) as row from keyfleet.${table} t where id = $1`, [id]);
  return () =>
    pool.query(
      `update keyfleet.${table} set (${columns}) =
         (select ${columns} from jsonb_populate_record(null::keyfleet.${table}, $2)) where id = $1`,
      [id, rows[0]?.row],
    );
}

/** Replaces the issuing function by these PL/pgSQL statements; `timeType` is the type of what it says the time is. */
export async function replaceStartSession(
  pool: pg.Pool,
  statements: string,
  timeType = "timestamptz",
): Promise<void> {
  const { rows } = await pool.query<{ parameters: string }>(
    "select pg_get_function_arguments(oid) as parameters from pg_proc where proname = 'start_session'",
  );
  const parameters = rows[0]?.parameters.replace(/(OUT issued_at) .*$/, `$1 ${timeType}`);
  await pool.query(`
    drop function keyfleet.start_session;
    create function keyfleet.start_session(${parameters}) language plpgsql as $$ begin ${statements} end $$`);
}

/** Whoever asks for one username gets the other's row: `=` is found in another schema than the real one. */
export async function confuseUsernames(pool: pg.Pool, asked: string, answered: string): Promise<void> {
  await pool.query(`
    create schema liar;
    create function liar.equal(a text, b text) returns boolean language sql immutable as $$
      select a operator(pg_catalog.=) case when b operator(pg_catalog.=) '${asked}' then '${answered}' else b end $$;
    create operator liar.= (leftarg = text, rightarg = text, function = liar.equal);
    do $$ begin
      execute format('alter database %I set search_path = liar, pg_catalog', current_database());
    end $$;
    select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()`);
}
