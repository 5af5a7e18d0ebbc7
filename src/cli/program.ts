/** The `keyfleet` command: all its subcommands. */

import { Command } from "commander";
import type { Environment } from "../config.ts";
import { migrate } from "../postgres/migrate.ts";
import { reseal } from "../postgres/reseal.ts";
import { addAccountsCommand } from "./accounts.ts";
import { addClientsCommand } from "./clients.ts";
import { addGatewayCommand } from "./gateway.ts";
import { addInstancesCommand, addKeysCommand } from "./keys.ts";
import { printRows } from "./output.ts";
import { addServeCommand } from "./serve.ts";
import { addAuditCommand, addSessionsCommand } from "./sessions.ts";
import { addTokenCommand } from "./token.ts";
import { loadConfig, openDatabase, withWorkspace } from "./workspace.ts";

/** `environment` is read once, at start, with the secrets that are then removed from the process's own. */
export function createProgram(environment: Environment): Command {
  const program = new Command("keyfleet")
    .description("an identity provider whose signing keys exist only in memory")
    .exitOverride();
  addServeCommand(program, environment);
  addMigrateCommand(program, environment);
  addAccountsCommand(program, environment);
  addKeysCommand(program, environment);
  addInstancesCommand(program, environment);
  addTokenCommand(program, environment);
  addClientsCommand(program, environment);
  addSessionsCommand(program, environment);
  addAuditCommand(program, environment);
  addResealCommand(program, environment);
  addGatewayCommand(program, environment);
  return program;
}

function addMigrateCommand(program: Command, environment: Environment): void {
  program
    .command("migrate")
    .description("brings the database's schema up to date; safe while instances run")
    .action(async () => {
      const { config } = loadConfig(environment);
      const database = await openDatabase(config, environment, () => undefined);
      try {
        const applied = await migrate({ url: database.listenUrl });
        console.log(applied.length === 0 ? "nothing to do" : `applied ${applied.join(", ")}`);
      } finally {
        await database.stop();
      }
    });
}

function addResealCommand(program: Command, environment: Environment): void {
  program
    .command("reseal")
    .description("seals everything under the current FLEET_SECRET; online, and may be repeated")
    .option("--json", "as JSON")
    .action(async ({ json = false }: { json?: boolean }) => {
      const results = await withWorkspace(environment, ({ pool, secrets }) => reseal(pool, secrets));
      printRows(
        results.map((result) => ({ ...result })),
        json,
      );
    });
}
