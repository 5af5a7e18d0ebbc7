/** Instances and keys as rows of a test's own database, at any age. */

import { randomBytes } from "node:crypto";
import { createInstance } from "../../src/fleet/instance.ts";
import { type KeyPublication, type PublishedKey, sealPublication } from "../../src/keys/published-key.ts";
import type { PublishOutcome } from "../../src/keys/published-key-store.ts";
import { generateSigningKey } from "../../src/keys/signing-key.ts";
import { createInstanceStore, type InstanceAdministrationStore } from "../../src/postgres/instances.ts";
import type { Pool, Queryable } from "../../src/postgres/pool.ts";
import { createPublishedKeyStore, type KeyAdministrationStore } from "../../src/postgres/signing-keys.ts";
import { testSecrets } from "../support/accounts.ts";

const hourMs = 3_600_000;

/** Where the beats of an instance stand, in seconds before now. */
export interface Beats {
  readonly silentForSeconds?: number;
  readonly connectedForSeconds?: number;
  readonly listening?: boolean;
  readonly leaving?: boolean;
}

export interface FleetRows {
  readonly instances: InstanceAdministrationStore;
  readonly keys: KeyAdministrationStore;
  nowMs(): Promise<number>;
  /** The id of a new instance; by default it beats now, listens, and has been there for two minutes. */
  instance(beats?: Beats): Promise<string>;
  beats(instanceId: string, beats: Beats): Promise<void>;
  publication(instanceId: string, changes?: Partial<KeyPublication>): Promise<KeyPublication>;
  publish(
    instanceId: string,
    maxSigners?: number,
    changes?: Partial<KeyPublication>,
  ): Promise<PublishOutcome>;
  /** Throws where it is not published. */
  publishKey(instanceId: string, changes?: Partial<KeyPublication>): Promise<PublishedKey>;
  /** As if the key had been published, and activated, so long ago; its seal is no good then. */
  age(kid: string, seconds: number): Promise<void>;
  /** A token's record under the key, as the issuing statement writes it. */
  recordToken(kid: string): Promise<void>;
}

export function createFleetRows(pool: Pool): FleetRows {
  const instances = createInstanceStore(pool);
  const keys = createPublishedKeyStore(pool);

  async function nowMs(): Promise<number> {
    const { rows } = await pool.query<{ now: number }>("select clock_timestamp() as now");
    return Math.round(rows[0]?.now ?? Number.NaN);
  }

  async function beats(
    instanceId: string,
    { silentForSeconds = 0, connectedForSeconds = 120, listening = true, leaving = false }: Beats,
  ): Promise<void> {
    await pool.query(
      `update keyfleet.instances set listening = $2, leaving_at = case when $3 then clock_timestamp() end,
         heartbeat_at = clock_timestamp() - $4 * interval '1 s',
         connected_since = clock_timestamp() - $5 * interval '1 s' where id = $1`,
      [instanceId, listening, leaving, silentForSeconds, connectedForSeconds],
    );
  }

  async function publication(
    instanceId: string,
    changes: Partial<KeyPublication> = {},
  ): Promise<KeyPublication> {
    const { kid, x } = generateSigningKey("EdDSA");
    const publishedAtMs = await nowMs();
    const times = {
      activatesAtMs: publishedAtMs,
      retiresAtMs: publishedAtMs + hourMs,
      expiresAtMs: publishedAtMs + 2 * hourMs,
    };
    return { kid, x, alg: "EdDSA", instanceId, publishedAtMs, ...times, ...changes };
  }

  async function publish(
    instanceId: string,
    maxSigners = 16,
    changes: Partial<KeyPublication> = {},
  ): Promise<PublishOutcome> {
    const key = await publication(instanceId, changes);
    return keys.publish(key, sealPublication(testSecrets, key), { maxSigners, madeAtMs: key.publishedAtMs });
  }

  return {
    instances,
    keys,
    nowMs,
    beats,
    publication,
    publish,
    async instance(given = {}) {
      const instance = createInstance();
      await instances.register(instance);
      await beats(instance.id, given);
      return instance.id;
    },
    async publishKey(instanceId, changes) {
      const result = await publish(instanceId, 16, changes);
      if (result.outcome !== "published") throw new Error(result.outcome);
      return result.key;
    },
    async age(kid, seconds) {
      await pool.query(
        `begin; alter table keyfleet.signing_keys disable trigger user;
         update keyfleet.signing_keys set published_at = published_at - interval '${seconds} s',
           activates_at = activates_at - interval '${seconds} s' where kid = '${kid}';
         alter table keyfleet.signing_keys enable trigger user; commit`,
      );
    },
    async recordToken(kid) {
      await pool.query(
        `insert into keyfleet.issued_tokens
           (jti, session_id, kid, instance_id, client_id, audience, scope, issued_at, expires_at)
         select $1, gen_random_uuid(), k.kid, k.instance_id, '', '', '', clock_timestamp(),
           clock_timestamp() + interval '1 min' from keyfleet.signing_keys k where k.kid = $2`,
        [randomBytes(16).toString("base64url"), kid],
      );
    },
  };
}

/** Takes a protection out of a function of the schema; throws where it is not there. */
export async function replaceInFunction(
  pool: Queryable,
  name: string,
  from: RegExp,
  to: string,
): Promise<() => Promise<unknown>> {
  const { rows } = await pool.query<{ text: string }>(
    "select pg_get_functiondef(oid) as text from pg_proc where pronamespace = 'keyfleet'::regnamespace and proname = $1",
    [name],
  );
  const text = rows[0]?.text ?? "";
  if (!from.test(text)) throw new Error(`${name} has no such protection`);
  await pool.query(text.replaceAll(new RegExp(from, "g"), to));
  return () => pool.query(text);
}

/** Runs `work` with the function replaced, and puts it back: the database serves other tests too. */
export async function whileReplaced<Result>(
  pool: Queryable,
  [name, from, to]: readonly [name: string, from: RegExp, to: string],
  work: () => Promise<Result>,
): Promise<Result> {
  const putBack = await replaceInFunction(pool, name, from, to);
  try {
    return await work();
  } finally {
    await putBack();
  }
}
