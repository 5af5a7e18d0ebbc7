/** `keyfleet token inspect` */

import type { Command } from "commander";
import type { Environment } from "../config.ts";
import { Refusal } from "../errors.ts";
import { readLine } from "./prompt.ts";
import { withWorkspace } from "./workspace.ts";

export function addTokenCommand(program: Command, environment: Environment): void {
  program
    .command("token")
    .description("access tokens")
    .command("inspect")
    .description("reads a token from stdin; fails where it is not good")
    .action(async () => {
      // Loaded only here: all other commands start sooner.
      const { inspectToken } = await import("./inspect-token.ts");
      const token = (await readLine())?.trim() ?? "";
      const inspection = await withWorkspace(environment, (workspace) => inspectToken(workspace, token));
      console.log(JSON.stringify(inspection, null, 2));
      if (inspection.verdict !== "valid")
        throw new Refusal("invalid_request", { description: inspection.verdict });
    });
}
