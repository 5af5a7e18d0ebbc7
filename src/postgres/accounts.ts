/** The tables `accounts` and `account_addresses`. */

import type { Account } from "../accounts/account.ts";
import type { AccountAdministrationStore, AccountListing } from "../accounts/account-store.ts";
import type { Queryable } from "./pool.ts";
import { actingRecord, sealColumns } from "./records.ts";

export interface AccountRow {
  id: string;
  username: string;
  password: string;
  scopes: string[];
  enabled: boolean;
  must_change_password: boolean;
  version: number;
  secret_id: string;
  seal: Buffer;
}

const columnNames = [
  ...["id", "username", "password", "scopes", "enabled", "must_change_password", "version"],
  ...["secret_id", "seal"],
];

/** Of a row that is named so. */
export const accountColumns = (alias: string) => columnNames.map((name) => `${alias}.${name}`).join(", ");
const columns = accountColumns("a");

export function toAccount(row: AccountRow): Account {
  const { id, username, password, scopes, enabled, must_change_password, version, secret_id, seal } = row;
  const facts = {
    id,
    username,
    password,
    scopes,
    enabled,
    mustChangePassword: must_change_password,
    version,
  };
  return { ...facts, seal: { secretId: secret_id, seal } };
}

function toRecord(account: Account): object {
  const { id, username, password, scopes, enabled, mustChangePassword, version, seal } = account;
  const facts = {
    id,
    username,
    password,
    scopes,
    enabled,
    must_change_password: mustChangePassword,
    version,
  };
  return { ...facts, ...sealColumns(seal) };
}

export function createAccountStore(database: Queryable): AccountAdministrationStore {
  return {
    async find(username, addressBlock) {
      const { rows } = await database.query<AccountRow & { known_address: boolean }>(
        `select ${columns}, exists (select from keyfleet.account_addresses known
           where known.account_id = a.id and known.address_block = $2
             and known.last_login_at > pg_catalog.clock_timestamp() - interval '30 days') as known_address
         from keyfleet.accounts a where a.username = $1`,
        [username, addressBlock],
      );
      const [row] = rows;
      return { account: row && toAccount(row), knownAddress: row?.known_address ?? false };
    },
    async replacePassword(before, after) {
      await database.query(
        `update keyfleet.accounts set password = $2, secret_id = $3, seal = $4
         where id = $1 and version = $5 and password = $6`,
        [before.id, after.password, after.seal.secretId, after.seal.seal, before.version, before.password],
      );
    },
    async findById(accountId) {
      const { rows } = await database.query<AccountRow>(
        `select ${columns} from keyfleet.accounts a where a.id = $1`,
        [accountId],
      );
      const [row] = rows;
      return row && toAccount(row);
    },
    async insert(account, who) {
      const { rowCount } = await database.query(
        `with added as (
           insert into keyfleet.accounts
             (id, username, password, scopes, enabled, must_change_password, version, secret_id, seal)
           select id, username, password, scopes, enabled, must_change_password, version, secret_id, seal
           from jsonb_populate_record(null::keyfleet.accounts, $1)
           on conflict (username) do nothing returning id
         )
         select keyfleet.audit(
           jsonb_populate_record(null::keyfleet.acting, $2), 'account_added', added.id, null, null, null, null)
         from added`,
        [toRecord(account), actingRecord(who)],
      );
      return rowCount === 1;
    },
    async list() {
      const { rows } = await database.query<AccountRow & { created_at: number; live_sessions: number }>(
        `select ${columns}, a.created_at, (select count(*) from keyfleet.sessions s
           where s.account_id = a.id and s.ended_at is null
             and s.expires_at > pg_catalog.clock_timestamp()) as live_sessions
         from keyfleet.accounts a order by a.username`,
      );
      return rows.map(
        (row): AccountListing => ({
          account: toAccount(row),
          createdAtMs: row.created_at,
          liveSessions: row.live_sessions,
        }),
      );
    },
    async change({ before, after, endSessions, keepSessionId, event, who }) {
      const { rows } = await database.query<{ changed: boolean }>(
        `select keyfleet.change_account(
           jsonb_populate_record(null::keyfleet.accounts, $1), $2, $3, $4, $5,
           jsonb_populate_record(null::keyfleet.acting, $6)) as changed`,
        [toRecord(after), before.version, endSessions, keepSessionId ?? null, event, actingRecord(who)],
      );
      return rows[0]?.changed === true;
    },
  };
}
