/** The table `instances`. */

import type { BeatOutcome, InstanceStore } from "../fleet/instance.ts";
import { interval, type Queryable, timestamp } from "./pool.ts";

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

export interface InstanceAdministrationStore extends InstanceStore {
  list(): Promise<InstanceRow[]>;
  /** Takes every sign of life so far for an old one: for who knows that nobody was connected. */
  disbelieveBeats(): Promise<void>;
}

export function createInstanceStore(database: Queryable): InstanceAdministrationStore {
  return {
    async register({ id, host, processId }) {
      await database.query(
        `insert into keyfleet.instances (id, host, process_id, started_at, heartbeat_at, connected_since)
         select $1, $2, $3, t, t, t from pg_catalog.clock_timestamp() t
         on conflict (id) do nothing`,
        [id, host, processId],
      );
    },
    async beat({ instanceId, expected, beat, lastBeatAtMs, listening }) {
      const { rows } = await database.query<{ outcome: BeatOutcome; beatAtMs: number | null }>(
        `select outcome, beat_at as "beatAtMs" from keyfleet.beat($1, $2, $3, $4, $5)`,
        [instanceId, expected, beat, lastBeatAtMs === null ? null : timestamp(lastBeatAtMs), listening],
      );
      return rows[0] ?? { outcome: "unknown", beatAtMs: null };
    },
    async bar(instanceId) {
      await database.query(
        `select keyfleet.revoke_instance_keys(i.id, true, 'restored', ('instance:' || i.id, i.id, null))
         from keyfleet.instances i where i.id = $1`,
        [instanceId],
      );
    },
    async stop(instanceId) {
      await database.query("select keyfleet.stop_instance($1)", [instanceId]);
    },
    async retireLost(instanceId) {
      const { rows } = await database.query<{ id: string }>(
        "select id from keyfleet.retire_lost_instances($1) id",
        [instanceId],
      );
      return rows.map(({ id }) => id);
    },
    async giveUpPlace(instanceId) {
      await database.query("select keyfleet.give_up_place($1)", [instanceId]);
    },
    async replacedInMs(instanceId, propagationDelayMs) {
      const { rows } = await database.query<{ ms: number | null }>(
        "select (extract(epoch from keyfleet.replaced_in($1, $2)) * 1000)::float8 as ms",
        [instanceId, interval(propagationDelayMs)],
      );
      return rows[0]?.ms ?? undefined;
    },
    async disbelieveBeats() {
      await database.query(
        "update keyfleet.instances set heartbeat_at = heartbeat_at - interval '60 seconds'",
      );
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
