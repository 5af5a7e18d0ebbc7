/** The issuing statements' choice of a key, asked for by itself. */

import type { IssueRequest, IssuingSettings } from "../tokens/issuing.ts";
import type { Queryable } from "./pool.ts";
import { issuerRecord } from "./records.ts";

/** Whether there is a key to sign with now. */
export function createSigningChoice(
  database: Queryable,
  settings: Omit<IssuingSettings, "issuer">,
): (request: Omit<IssueRequest, "jti">) => Promise<boolean> {
  return async (request) => {
    const { rows } = await database.query<{ found: boolean }>(
      `select kid is not null as found from keyfleet.choose_signing_key(
         jsonb_populate_record(null::keyfleet.issuer, $1), pg_catalog.clock_timestamp())`,
      [issuerRecord(settings, request)],
    );
    return rows[0]?.found === true;
  };
}
