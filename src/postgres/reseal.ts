/** Seals every row that is not sealed under the current secret anew: the middle of a change of FLEET_SECRET. */

import { type Account, isAccountSealed, sealAccount } from "../accounts/account.ts";
import { decryptHash, encryptHash } from "../accounts/password.ts";
import { isClientSealed, sealClient } from "../clients/client.ts";
import type { FleetSecrets } from "../fleet-secret.ts";
import { isPublicationSealed, sealPublication } from "../keys/published-key.ts";
import { isSessionSealed, sealRefreshState, sealSession } from "../sessions/session.ts";
import { type AccountRow, accountColumns, toAccount } from "./accounts.ts";
import { type ClientRow, clientColumns, toClient } from "./clients.ts";
import type { Queryable } from "./pool.ts";
import { type SessionRow, sessionColumns, toSession } from "./session-row.ts";
import { type SigningKeyRow, signingKeyColumns, toPublishedKey } from "./signing-keys.ts";

export interface Resealed {
  readonly table: string;
  readonly resealed: number;
  /** Of no accepted secret: left as they are, and refused as before. */
  readonly foreign: number;
}

const batchRows = 500;

/** What is written is only what was read: a row that changed meanwhile is met again. */
interface Resealing<Row> {
  readonly table: string;
  readonly key: string;
  readonly columns: string;
  /** Besides `secret_id`, where another secret may show. */
  readonly alsoWhere?: string;
  keyOf(row: Row): string;
  /** True where the row was genuine. */
  reseal(row: Row): Promise<boolean>;
}

/** Online, resumable, and safe to repeat. Run it after the new secret is everywhere the current one. */
export async function reseal(database: Queryable, secrets: FleetSecrets): Promise<readonly Resealed[]> {
  const results: Resealed[] = [];
  for (const resealing of resealings(database, secrets)) {
    results.push(await resealTable(database, secrets.current.id, resealing as Resealing<never>));
  }
  return results;
}

async function resealTable(
  database: Queryable,
  currentId: string,
  resealing: Resealing<never>,
): Promise<Resealed> {
  const { table, key, columns, alsoWhere = "false" } = resealing;
  let resealed = 0;
  let foreign = 0;
  for (let after = ""; ; ) {
    const { rows } = await database.query<never>(
      `select ${columns} from keyfleet.${table} t
       where t.${key}::text > $1 and (t.secret_id <> $2 or ${alsoWhere}) order by t.${key}::text limit ${batchRows}`,
      [after, currentId],
    );
    for (const row of rows) {
      if (await resealing.reseal(row)) resealed += 1;
      else foreign += 1;
      after = resealing.keyOf(row);
    }
    if (rows.length < batchRows) return { table, resealed, foreign };
  }
}

function resealings(database: Queryable, secrets: FleetSecrets): readonly unknown[] {
  const keys: Resealing<SigningKeyRow> = {
    table: "signing_keys",
    key: "kid",
    columns: signingKeyColumns("t"),
    keyOf: (row) => row.kid,
    async reseal(row) {
      const key = toPublishedKey(row);
      if (!isPublicationSealed(secrets, key)) return false;
      const { secretId, seal } = sealPublication(secrets, key);
      await database.query("update keyfleet.signing_keys set secret_id = $2, seal = $3 where kid = $1", [
        key.kid,
        secretId,
        seal,
      ]);
      return true;
    },
  };
  const accounts: Resealing<AccountRow> = {
    table: "accounts",
    key: "id",
    columns: accountColumns("t"),
    keyOf: (row) => row.id,
    async reseal(row) {
      const before = toAccount(row);
      const hash = decryptHash(secrets, before.id, before.password);
      if (!isAccountSealed(secrets, before) || hash === undefined) return false;
      const password = encryptHash(secrets, before.id, hash);
      const after: Account = sealAccount(secrets, { ...before, password });
      await database.query(
        `update keyfleet.accounts set password = $2, secret_id = $3, seal = $4
         where id = $1 and version = $5 and password = $6`,
        [before.id, password, after.seal.secretId, after.seal.seal, before.version, before.password],
      );
      return true;
    },
  };
  const clients: Resealing<ClientRow> = {
    table: "clients",
    key: "id",
    columns: clientColumns("t"),
    keyOf: (row) => row.id,
    async reseal(row) {
      const client = toClient(row);
      if (!isClientSealed(secrets, client)) return false;
      const { secretId, seal } = sealClient(secrets, client).seal;
      await database.query(
        "update keyfleet.clients set secret_id = $2, seal = $3 where id = $1 and seal = $4",
        [client.id, secretId, seal, client.seal.seal],
      );
      return true;
    },
  };
  const sessions: Resealing<SessionRow> = {
    table: "sessions",
    key: "id",
    columns: sessionColumns("t"),
    alsoWhere: "t.refresh_seal_secret_id <> $2",
    keyOf: (row) => row.id,
    async reseal(row) {
      const session = toSession(row);
      if (!isSessionSealed(secrets, session)) return false;
      const facts = sealSession(secrets, session);
      const refresh = session.refresh && sealRefreshState(secrets, session.id, session.refresh);
      await database.query(
        `update keyfleet.sessions
         set secret_id = $2, seal = $3, refresh_seal_secret_id = $4, refresh_seal = $5
         where id = $1 and refresh_seal is not distinct from $6`,
        [
          session.id,
          facts.secretId,
          facts.seal,
          refresh?.secretId,
          refresh?.seal,
          session.refresh?.seal.seal,
        ],
      );
      return true;
    },
  };
  return [keys, accounts, clients, sessions];
}
