/** `keyfleet keys …` and `keyfleet instances …` */

import type { Command } from "commander";
import type { Environment } from "../config.ts";
import { expiryMs, keyFault, keyStateAt, retirementMs } from "../keys/published-key.ts";
import { createFleetStateReader } from "../postgres/fleet-state.ts";
import { createInstanceStore } from "../postgres/instances.ts";
import { createPublishedKeyStore } from "../postgres/signing-keys.ts";
import { isoTime, printRows } from "./output.ts";
import { withWorkspace } from "./workspace.ts";

export function addKeysCommand(program: Command, environment: Environment): void {
  program
    .command("keys")
    .description("the fleet's public signing keys")
    .command("list")
    .option("--json", "as JSON")
    .action(async ({ json = false }: { json?: boolean }) => {
      const rows = await withWorkspace(environment, async ({ config, secrets, pool }) => {
        const { databaseMs } = await createFleetStateReader(pool)();
        const keys = await createPublishedKeyStore(pool).list();
        return keys
          .filter((key) => keyStateAt(key, databaseMs) !== "expired")
          .sort((a, b) => a.publishedAtMs - b.publishedAtMs)
          .map((key) => ({
            kid: key.kid,
            instance: key.instanceId,
            state: keyFault(secrets, config.signingAlg, key) ?? keyStateAt(key, databaseMs),
            published_at: isoTime(key.publishedAtMs),
            activates_at: isoTime(key.activatesAtMs),
            retires_at: isoTime(retirementMs(key)),
            expires_at: isoTime(expiryMs(key)),
          }));
      });
      printRows(rows, json);
    });
}

export function addInstancesCommand(program: Command, environment: Environment): void {
  program
    .command("instances")
    .description("the processes of the fleet")
    .command("list")
    .option("--json", "as JSON")
    .action(async ({ json = false }: { json?: boolean }) => {
      const instances = await withWorkspace(environment, ({ pool }) => createInstanceStore(pool).list());
      const rows = instances.map((instance) => ({
        id: instance.id,
        host: instance.host,
        process_id: instance.processId,
        alive: instance.alive,
        keys: instance.unexpiredKeys,
        started_at: isoTime(instance.startedAtMs),
        heartbeat_at: isoTime(instance.heartbeatAtMs),
        stopped_at: isoTime(instance.stoppedAtMs),
      }));
      printRows(rows, json);
    });
}
