/** What the statements that an instance sends all the time take, one after the other, on the database of a large fleet. */

import { createInstance } from "../../src/fleet/instance.ts";
import { sealPublication } from "../../src/keys/published-key.ts";
import { generateSigningKey } from "../../src/keys/signing-key.ts";
import { createFleetStateReader } from "../../src/postgres/fleet-state.ts";
import { createInstanceStore } from "../../src/postgres/instances.ts";
import type { Queryable } from "../../src/postgres/pool.ts";
import { createPublishedKeyStore } from "../../src/postgres/signing-keys.ts";
import { testSecrets } from "../support/accounts.ts";
import type { StatementKind } from "./statement-load.ts";

const times = 300;

/** Mean milliseconds, the way to the server and back included. */
export async function measureStatements(
  database: Queryable,
  nowMs: number,
): Promise<Partial<Record<StatementKind, number>>> {
  const instances = createInstanceStore(database);
  const keys = createPublishedKeyStore(database);
  const instance = createInstance();
  await instances.register(instance);
  let beats = 0;
  const { kid, x } = generateSigningKey("EdDSA");
  const lifetime = { activatesAtMs: nowMs, retiresAtMs: nowMs + 60_000, expiresAtMs: nowMs + 90_000 };
  const key = { kid, x, alg: "EdDSA", instanceId: instance.id, publishedAtMs: nowMs, ...lifetime } as const;
  const work: Partial<Record<StatementKind, () => Promise<unknown>>> = {
    state: createFleetStateReader(database),
    list: keys.list,
    beat: () =>
      instances.beat({
        ...{ instanceId: instance.id, lastBeatAtMs: nowMs, listening: true },
        expected: beats === 0 ? "" : String(beats),
        beat: String(++beats),
      }),
    look: () => instances.retireLost(instance.id),
    place: () => keys.publish(key, sealPublication(testSecrets, key), { maxSigners: 16, madeAtMs: nowMs }),
    probe: () => database.query("select pg_catalog.pg_notify('keyfleet_probe', '1')"),
  };
  const costs: Partial<Record<StatementKind, number>> = {};
  for (const [kind, run] of Object.entries(work)) {
    await run();
    const startedAtMs = performance.now();
    for (let count = 0; count < times; count += 1) await run();
    costs[kind as StatementKind] = (performance.now() - startedAtMs) / times;
  }
  return costs;
}
