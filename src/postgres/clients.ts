/** The table `clients`. */

import type { Client } from "../clients/client.ts";
import type { ClientAdministrationStore } from "../clients/client-store.ts";
import type { Queryable } from "./pool.ts";
import { actingRecord } from "./records.ts";

export interface ClientRow {
  id: string;
  secret_hash: Buffer;
  audiences: string[];
  scopes: string[];
  secret_id: string;
  seal: Buffer;
}

/** Of a row that is named so. */
export const clientColumns = (alias: string) =>
  ["id", "secret_hash", "audiences", "scopes", "secret_id", "seal"]
    .map((name) => `${alias}.${name}`)
    .join(", ");
const columns = clientColumns("c");

export function toClient({ id, secret_hash, audiences, scopes, secret_id, seal }: ClientRow): Client {
  return { id, secretHash: secret_hash, audiences, scopes, seal: { secretId: secret_id, seal } };
}

export function createClientStore(database: Queryable): ClientAdministrationStore {
  return {
    async find(clientId) {
      const { rows } = await database.query<ClientRow>(
        `select ${columns} from keyfleet.clients c where c.id = $1`,
        [clientId],
      );
      const [row] = rows;
      return row && toClient(row);
    },
    async insert({ id, secretHash, audiences, scopes, seal }, who) {
      const { rowCount } = await database.query(
        `with added as (
           insert into keyfleet.clients (id, secret_hash, audiences, scopes, secret_id, seal)
           values ($1, $2, $3, $4, $5, $6) on conflict (id) do nothing returning id
         )
         select keyfleet.audit(
           jsonb_populate_record(null::keyfleet.acting, $7), 'client_added', null, null, added.id, null, null)
         from added`,
        [id, secretHash, audiences, scopes, seal.secretId, seal.seal, actingRecord(who)],
      );
      return rowCount === 1;
    },
    async list() {
      const { rows } = await database.query<ClientRow & { created_at: number }>(
        `select ${columns}, c.created_at from keyfleet.clients c order by c.id`,
      );
      return rows.map((row) => ({ client: toClient(row), createdAtMs: row.created_at }));
    },
    async remove(clientId, who) {
      const { rows } = await database.query<{ removed: boolean }>(
        "select keyfleet.remove_client($1, jsonb_populate_record(null::keyfleet.acting, $2)) as removed",
        [clientId, actingRecord(who)],
      );
      return rows[0]?.removed === true;
    },
  };
}
