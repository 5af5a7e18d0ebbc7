/** The table `instances`. */

import type { InstanceStore } from "../fleet/instance.ts";
import type { Queryable } from "./pool.ts";

export interface InstanceRow {
  readonly id: string;
  readonly host: string;
  readonly processId: number;
  readonly startedAtMs: number;
  readonly heartbeatAtMs: number;
  readonly stoppedAtMs: number | null;
  readonly revokedAtMs: number | null;
  readonly unexpiredKeys: number;
  /** By the database: neither stopped nor revoked, and heard of in the last minute. */
  readonly alive: boolean;
}

export function createInstanceStore(database: Queryable): InstanceStore & { list(): Promise<InstanceRow[]> } {
  return {
    async register({ id, host, processId }) {
      await database.query(
        `insert into keyfleet.instances (id, host, process_id, started_at, heartbeat_at)
         values ($1, $2, $3, pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp())
         on conflict (id) do nothing`,
        [id, host, processId],
      );
    },
    async heartbeat(instanceId) {
      const { rowCount } = await database.query(
        `update keyfleet.instances set heartbeat_at = pg_catalog.clock_timestamp()
         where id = $1 and stopped_at is null and revoked_at is null`,
        [instanceId],
      );
      return rowCount === 1;
    },
    async stop(instanceId) {
      await database.query("select keyfleet.stop_instance($1)", [instanceId]);
    },
    async list() {
      const { rows } = await database.query<InstanceRow>(
        `select i.id, i.host, i.process_id as "processId", i.started_at as "startedAtMs",
                i.heartbeat_at as "heartbeatAtMs", i.stopped_at as "stoppedAtMs", i.revoked_at as "revokedAtMs",
                i.stopped_at is null and i.revoked_at is null
                  and i.heartbeat_at > pg_catalog.clock_timestamp() - interval '60 seconds' as alive,
                (select count(*) from keyfleet.signing_keys k
                 where k.instance_id = i.id and k.revoked_at is null
                   and keyfleet.key_expiry(k) > pg_catalog.clock_timestamp()) as "unexpiredKeys"
         from keyfleet.instances i order by i.started_at, i.id`,
      );
      return rows;
    },
  };
}
