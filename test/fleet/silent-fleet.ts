/** Three instances whose way to the database can be taken from all at once, for as long as the database is told. */

import type pg from "pg";
import { eventually } from "../support/accounts.ts";
import { type Settings, startInstance, type TestInstance } from "../support/instance.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

/** To the database: a pool, or a client in a transaction. */
type Connection = Pick<pg.Pool, "query">;

export interface SilentFleet {
  readonly instances: readonly [TestInstance, TestInstance, TestInstance];
  readonly proxy: TcpProxy;
  /** Every sign of life so far was given an hour earlier, by who had been there for two. */
  passAnHour(on?: Connection): Promise<void>;
  /** What each instance does every ten seconds. Returns who was declared dead. */
  lookForLost(on?: Connection): Promise<readonly string[]>;
  /** Ends of keys, other than those that they were published with. */
  endedKeys(on?: Connection): Promise<readonly string[]>;
  stop(): Promise<void>;
}

/** The next keys are far from signing, and so would be withdrawn with the current ones of the dead. */
const settings = { ISSUER: "https://id.example", KEY_ROTATION_SCHEDULE: "0 0 1 1 *" };

export async function startSilentFleet(
  database: { readonly url: string; readonly pool: pg.Pool },
  given: Settings = {},
): Promise<SilentFleet> {
  const proxy = await startTcpProxy(database.url);
  const start = () => startInstance({ databaseUrl: proxy.url, settings: { ...settings, ...given } });
  const instances = await Promise.all([start(), start(), start()]);
  return {
    instances,
    proxy,
    async passAnHour(on = database.pool) {
      await on.query(
        `update keyfleet.instances set heartbeat_at = heartbeat_at - interval '1 hour',
           connected_since = connected_since - interval '2 hours'`,
      );
    },
    async lookForLost(on = database.pool) {
      const lost: string[] = [];
      for (const { instanceId } of instances) {
        const { rows } = await on.query<{ id: string }>(
          "select id from keyfleet.retire_lost_instances($1) id",
          [instanceId],
        );
        lost.push(...rows.map(({ id }) => id));
      }
      return lost;
    },
    async endedKeys(on = database.pool) {
      const { rows } = await on.query<{ kid: string }>(
        "select kid from keyfleet.signing_keys where retired_early_at is not null or revoked_at is not null",
      );
      return rows.map(({ kid }) => kid);
    },
    async stop() {
      await Promise.all(instances.map((instance) => instance.stop("SIGKILL")));
      await proxy.close();
    },
  };
}

export const jwksOf = async ({ url }: TestInstance) => (await fetch(`${url}/.well-known/jwks.json`)).text();
export const canIssue = async ({ url }: TestInstance) => (await fetch(`${url}/readyz/issue`)).status === 200;

/** Resolves when it holds for all of them. */
export async function eventuallyAll(
  instances: readonly TestInstance[],
  holds: (instance: TestInstance) => Promise<boolean>,
  withinMs?: number,
): Promise<void> {
  await eventually(async () => (await Promise.all(instances.map(holds))).every(Boolean), withinMs);
}

/** The document that all of them serve, each with its two keys in it. */
export async function sharedJwks(instances: readonly TestInstance[]): Promise<string> {
  let documents: readonly string[] = [];
  await eventually(async () => {
    documents = [...new Set(await Promise.all(instances.map(jwksOf)))];
    return documents.length === 1 && documents[0]?.split('"kid"').length === 2 * instances.length + 1;
  });
  return documents[0] ?? "";
}
