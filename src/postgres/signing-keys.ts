/** The table `signing_keys`. */

import type { PublishedKey } from "../keys/published-key.ts";
import type { PublishedKeyStore, PublishOutcome } from "../keys/published-key-store.ts";
import type { SigningAlg } from "../protocol/jwk.ts";
import { type Queryable, timestamp } from "./pool.ts";

interface SigningKeyRow {
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

const columns = `k.kid, k.instance_id, k.alg, k.x, k.published_at, k.activates_at, k.retires_at, k.expires_at,
  k.retired_early_at, k.revoked_at, k.secret_id, k.seal`;

function toPublishedKey(row: SigningKeyRow): PublishedKey {
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

export function createPublishedKeyStore(
  database: Queryable,
): PublishedKeyStore & { find(kid: string): Promise<PublishedKey | undefined> } {
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
    async publish(key, seal) {
      const { rows } = await database.query<{ outcome: PublishOutcome["outcome"] }>(
        "select keyfleet.publish_signing_key($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) as outcome",
        [
          key.kid,
          key.instanceId,
          key.alg,
          key.x,
          timestamp(key.publishedAtMs),
          timestamp(key.activatesAtMs),
          timestamp(key.retiresAtMs),
          timestamp(key.expiresAtMs),
          seal.secretId,
          seal.seal,
        ],
      );
      const outcome = rows[0]?.outcome ?? "instance_ended";
      if (outcome !== "published") return { outcome };
      const published = await find(key.kid);
      if (published === undefined) throw new Error("a key that was just published is gone");
      return { outcome, key: published };
    },
    async list() {
      const { rows } = await database.query<SigningKeyRow>(
        `select ${columns} from keyfleet.signing_keys k where k.expires_at > pg_catalog.clock_timestamp()`,
      );
      return rows.map(toPublishedKey);
    },
  };
}
