/** The tables `accounts` and `account_addresses`. */

import type { Account } from "../accounts/account.ts";
import type { AccountAdministrationStore, AccountListing, AccountStore } from "../accounts/account-store.ts";
import { inTransaction, type Pool } from "./pool.ts";

interface AccountRow {
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

const columns =
  "a.id, a.username, a.password, a.scopes, a.enabled, a.must_change_password, a.version, a.secret_id, a.seal";

function toAccount(row: AccountRow): Account {
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

/** The values of an insert or update, in the order of `columns`. */
function toValues(account: Account): unknown[] {
  const { id, username, password, scopes, enabled, mustChangePassword, version, seal } = account;
  return [id, username, password, scopes, enabled, mustChangePassword, version, seal.secretId, seal.seal];
}

export function createAccountStore(pool: Pool): AccountStore & AccountAdministrationStore {
  return {
    async find(username, addressBlock) {
      const { rows } = await pool.query<AccountRow & { known_address: boolean }>(
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
      await pool.query(
        `update keyfleet.accounts set password = $2, secret_id = $3, seal = $4
         where id = $1 and version = $5 and password = $6`,
        [before.id, after.password, after.seal.secretId, after.seal.seal, before.version, before.password],
      );
    },
    async insert(account) {
      const { rowCount } = await pool.query(
        `insert into keyfleet.accounts
           (id, username, password, scopes, enabled, must_change_password, version, secret_id, seal)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (username) do nothing`,
        toValues(account),
      );
      return rowCount === 1;
    },
    async list() {
      const { rows } = await pool.query<AccountRow & { created_at: number; live_sessions: number }>(
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
    change: (username, change, endSessions) =>
      inTransaction(pool, async (client) => {
        const { rows } = await client.query<AccountRow>(
          `select ${columns} from keyfleet.accounts a where a.username = $1 for update`,
          [username],
        );
        const [row] = rows;
        if (row === undefined) return undefined;
        const after = change(toAccount(row));
        await client.query(
          `update keyfleet.accounts set username = $2, password = $3, scopes = $4, enabled = $5,
             must_change_password = $6, version = $7, secret_id = $8, seal = $9 where id = $1`,
          toValues(after),
        );
        if (endSessions) {
          await client.query(
            `update keyfleet.sessions set ended_at = pg_catalog.clock_timestamp()
             where account_id = $1 and ended_at is null`,
            [after.id],
          );
        }
        return after;
      }),
  };
}
