/** The table `signing_keys`. */

import type { Acting } from "../audit.ts";
import type { KeyPublication, PublishedKey } from "../keys/published-key.ts";
import type { PublishedKeyStore, PublishOutcome } from "../keys/published-key-store.ts";
import type { SigningAlg } from "../protocol/jwk.ts";
import type { Seal } from "../seal.ts";
import { type Queryable, timestamp } from "./pool.ts";
import { actingRecord, sealColumns } from "./records.ts";

export interface SigningKeyRow {
  kid: string;
  instance_id: string;
  alg: SigningAlg;
  x: string;
  published_at: number;
  activates_at: number;
  retires_at: number;
  expires_at: number;
  retired_early_at: number | null;
  revoked_at: number | null;
  secret_id: string;
  seal: Buffer;
}

const columnNames = [
  ...["kid", "instance_id", "alg", "x", "published_at", "activates_at", "retires_at", "expires_at"],
  ...["retired_early_at", "revoked_at", "secret_id", "seal"],
];

/** Of a row that is named so. */
export const signingKeyColumns = (alias: string) => columnNames.map((name) => `${alias}.${name}`).join(", ");
const columns = signingKeyColumns("k");

export function toPublishedKey(row: SigningKeyRow): PublishedKey {
  return {
    kid: row.kid,
    instanceId: row.instance_id,
    alg: row.alg,
    x: row.x,
    publishedAtMs: row.published_at,
    activatesAtMs: row.activates_at,
    retiresAtMs: row.retires_at,
    expiresAtMs: row.expires_at,
    retiredEarlyAtMs: row.retired_early_at,
    revokedAtMs: row.revoked_at,
    seal: { secretId: row.secret_id, seal: row.seal },
  };
}

function publicationRecord(key: KeyPublication, seal: Seal): object {
  return {
    kid: key.kid,
    instance_id: key.instanceId,
    alg: key.alg,
    x: key.x,
    published_at: timestamp(key.publishedAtMs),
    activates_at: timestamp(key.activatesAtMs),
    retires_at: timestamp(key.retiresAtMs),
    expires_at: timestamp(key.expiresAtMs),
    ...sealColumns(seal),
  };
}

function keyRecord(key: PublishedKey): object {
  const ends = { retired_early_at: key.retiredEarlyAtMs, revoked_at: key.revokedAtMs };
  const times = Object.entries(ends).map(([name, timeMs]) => [
    name,
    timeMs === null ? null : timestamp(timeMs),
  ]);
  return { ...publicationRecord(key, key.seal), ...Object.fromEntries(times) };
}

/** How much a revocation touches. */
export interface AffectedTokens {
  readonly tokens: number;
  readonly sessions: number;
}

export interface KeyAdministrationStore extends PublishedKeyStore {
  find(kid: string): Promise<PublishedKey | undefined>;
  countAffected(instanceId: string): Promise<AffectedTokens>;
  /** Revokes all unexpired keys of an instance; with `bar` it publishes no others. Returns their kids. */
  revokeInstanceKeys(
    instanceId: string,
    bar: boolean,
    reason: string,
    who: Acting,
  ): Promise<readonly string[]>;
}

export function createPublishedKeyStore(database: Queryable): KeyAdministrationStore {
  async function find(kid: string): Promise<PublishedKey | undefined> {
    const { rows } = await database.query<SigningKeyRow>(
      `select ${columns} from keyfleet.signing_keys k where k.kid = $1`,
      [kid],
    );
    const row = rows.find((candidate) => candidate.kid === kid);
    return row === undefined ? undefined : toPublishedKey(row);
  }

  return {
    find,
    async publish(key, seal, { maxSigners, madeAtMs }) {
      const { rows } = await database.query<{ outcome: PublishOutcome["outcome"] }>(
        "select keyfleet.publish_key(jsonb_populate_record(null::keyfleet.signing_keys, $1), $2, $3) as outcome",
        [publicationRecord(key, seal), timestamp(madeAtMs), maxSigners],
      );
      const outcome = rows[0]?.outcome ?? "instance_ended";
      if (outcome !== "published") return { outcome };
      const published = await find(key.kid);
      if (published === undefined) throw new Error("a key that was just published is gone");
      return { outcome, key: published };
    },
    async countAffected(instanceId) {
      const { rows } = await database.query<AffectedTokens>(
        "select tokens, sessions from keyfleet.count_affected_by_keys($1)",
        [instanceId],
      );
      return rows[0] ?? { tokens: 0, sessions: 0 };
    },
    async revokeInstanceKeys(instanceId, bar, reason, who) {
      const { rows } = await database.query<{ kids: string[] }>(
        `select keyfleet.revoke_instance_keys(
           $1, $2, $3, jsonb_populate_record(null::keyfleet.acting, $4)) as kids`,
        [instanceId, bar, reason, actingRecord(who)],
      );
      return rows[0]?.kids ?? [];
    },
    async restore(keys) {
      const { rows } = await database.query<{ restored: number }>(
        `select keyfleet.restore_keys(
           array(select k from jsonb_populate_recordset(null::keyfleet.signing_keys, $1) k)) as restored`,
        [JSON.stringify(keys.map(keyRecord))],
      );
      return rows[0]?.restored ?? 0;
    },
    async list() {
      const { rows } = await database.query<SigningKeyRow>(
        `select ${columns} from keyfleet.signing_keys k where k.expires_at > pg_catalog.clock_timestamp()`,
      );
      return rows.map(toPublishedKey);
    },
  };
}
