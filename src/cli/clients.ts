/** `keyfleet clients …` */

import type { Command } from "commander";
import { type ClientManagement, createClientManagement } from "../clients/manage-clients.ts";
import type { Environment } from "../config.ts";
import { createClientStore } from "../postgres/clients.ts";
import { isoTime, printRows } from "./output.ts";
import { commandActing, withWorkspace } from "./workspace.ts";

export function addClientsCommand(program: Command, environment: Environment): void {
  const clients = program.command("clients").description("services that get tokens for themselves");
  const manage = <Result>(work: (management: ClientManagement) => Promise<Result>) =>
    withWorkspace(environment, ({ config, secrets, pool }) => {
      const issuer = config.issuer ?? `http://localhost:${config.port}`;
      const allowedAudiences = [...new Set([...config.audiences, issuer])];
      const store = createClientStore(pool);
      return work(createClientManagement({ store, secrets, allowedAudiences, who: commandActing }));
    });
  const collect = (value: string, previous: string[]) => [...previous, value];

  clients
    .command("add <id>")
    .description("makes a client and prints its secret, which is kept nowhere")
    .option(
      "--audience <audience>",
      "gets tokens for it, and introspects its tokens; may be repeated",
      collect,
      [],
    )
    .option("--scope <scope>", "a scope the client has; may be repeated", collect, [])
    .action(async (id: string, { audience, scope }: { audience: string[]; scope: string[] }) => {
      const secret = await manage((management) => management.add({ id, audiences: audience, scopes: scope }));
      console.log(secret);
    });
  clients
    .command("list")
    .option("--json", "as JSON")
    .action(async ({ json = false }: { json?: boolean }) => {
      const listed = await manage((management) => management.list());
      const rows = listed.map(({ client, createdAtMs }) => ({
        id: client.id,
        audiences: client.audiences,
        scopes: client.scopes,
        created_at: isoTime(createdAtMs),
      }));
      printRows(rows, json);
    });
  clients
    .command("remove <id>")
    .description("refuses it from now on, and ends every session through it")
    .action(async (id: string) => {
      await manage((management) => management.remove(id));
      console.log(`removed ${id}`);
    });
}
