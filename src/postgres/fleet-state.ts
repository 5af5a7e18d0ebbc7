/** The table `fleet_state`: one row, read by every instance every FLEET_SYNC_INTERVAL, clock included. */

import type { FleetState } from "../fleet/fleet-sync.ts";
import type { Queryable } from "./pool.ts";

export function createFleetStateReader(database: Queryable): () => Promise<FleetState> {
  return async () => {
    const { rows } = await database.query<FleetState>(
      `select extract(epoch from pg_catalog.clock_timestamp())::float8 * 1000 as "databaseMs",
              directory_version as "directoryVersion", revocation_number as "revocationNumber", epoch
       from keyfleet.fleet_state`,
    );
    const state = rows[0];
    if (state === undefined) throw new Error("the table fleet_state has lost its row");
    return state;
  };
}
