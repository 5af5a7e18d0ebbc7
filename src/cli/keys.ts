/** `keyfleet keys …` and `keyfleet instances …` */

import type { Command } from "commander";
import type { Environment } from "../config.ts";
import { Refusal } from "../errors.ts";
import { expiryMs, keyFault, keyStateAt, retirementMs } from "../keys/published-key.ts";
import { createFleetStateReader } from "../postgres/fleet-state.ts";
import { createInstanceStore } from "../postgres/instances.ts";
import type { Pool } from "../postgres/pool.ts";
import { createPublishedKeyStore } from "../postgres/signing-keys.ts";
import { isoTime, printRows } from "./output.ts";
import { confirm } from "./prompt.ts";
import { commandActing, withWorkspace } from "./workspace.ts";

export function addKeysCommand(program: Command, environment: Environment): void {
  const keys = program.command("keys").description("the fleet's public signing keys");
  keys
    .command("revoke <kid>")
    .description("revokes all keys of the process that made it; it goes on with new ones")
    .option("--yes", "without asking")
    // One kid in 64 begins with a dash.
    .allowUnknownOption()
    .action(async (kid: string, { yes = false }: { yes?: boolean }) => {
      await withWorkspace(environment, async ({ pool }) => {
        const key = await createPublishedKeyStore(pool).find(kid);
        if (key === undefined) throw new Refusal("not_found", { description: "there is no key of this kid" });
        if (key.revokedAtMs !== null) console.log("it is revoked already");
        else await revokeKeysOf(pool, key.instanceId, { bar: false, yes });
      });
    });
  keys
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
  const instances = program.command("instances").description("the processes of the fleet");
  instances
    .command("revoke <id>")
    .description("revokes all keys of a process, and refuses it others")
    .option("--yes", "without asking")
    .action(async (id: string, { yes = false }: { yes?: boolean }) => {
      await withWorkspace(environment, async ({ pool }) => {
        const known = (await createInstanceStore(pool).list()).some((instance) => instance.id === id);
        if (!known) throw new Refusal("not_found", { description: "there is no instance of this id" });
        await revokeKeysOf(pool, id, { bar: true, yes });
      });
    });
  instances
    .command("list")
    .option("--json", "as JSON")
    .action(async ({ json = false }: { json?: boolean }) => {
      const listed = await withWorkspace(environment, ({ pool }) => createInstanceStore(pool).list());
      const rows = listed.map((instance) => ({
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

/** Says first what it touches: tokens that are refused before their time, whose clients refresh. */
async function revokeKeysOf(
  pool: Pool,
  instanceId: string,
  options: { readonly bar: boolean; readonly yes: boolean },
): Promise<void> {
  const store = createPublishedKeyStore(pool);
  const { tokens, sessions } = await store.countAffected(instanceId);
  console.log(`this refuses ${tokens} unexpired tokens of ${sessions} sessions; their clients refresh`);
  if (!options.yes && !(await confirm("Go on?"))) {
    throw new Refusal("invalid_request", { description: "nothing was revoked" });
  }
  const kids = await store.revokeInstanceKeys(instanceId, options.bar, "revoked", commandActing);
  console.log(kids.length === 0 ? "no unexpired keys" : `revoked ${kids.join(", ")}`);
}
