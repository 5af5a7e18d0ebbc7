/** `keyfleet gateway`: forward-auth for services that have no verifier of their own. */

import { type Command, InvalidArgumentError, Option } from "commander";
import type { Environment } from "../config.ts";
import { checkOptions } from "../verifier/options.ts";
import type { GatewayFlags } from "./run-gateway.ts";

export function addGatewayCommand(program: Command, environment: Environment): void {
  program
    .command("gateway")
    .description("a forward-auth server for nginx, Traefik and Envoy")
    .requiredOption("--issuer <url>", "whose tokens")
    .requiredOption("--audience <audience>", "what they have to be for")
    .addOption(
      new Option("--when-stale <choice>", "what to do where revocations are too old")
        .choices(["reject", "accept"])
        .makeOptionMandatory(),
    )
    .option("--max-staleness <duration>", "how old they may be", "60s")
    .option("--host <address>", "to listen on", "127.0.0.1")
    .option("--port <port>", "to listen on; 0 picks one", readPort, 8090)
    .action(async (flags: GatewayFlags, command: Command) => {
      const problem = verifierProblem(flags);
      if (problem !== undefined) command.error(`error: ${problem}`);
      const { runGateway } = await import("./run-gateway.ts");
      await runGateway(flags, environment);
    });
}

/** What the verifier would refuse to be made with. */
function verifierProblem({ issuer, audience, whenStale, maxStaleness }: GatewayFlags): string | undefined {
  try {
    checkOptions({ issuer, audience, revocation: { whenStale, maxStaleness } });
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function readPort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!(port <= 65_535)) throw new InvalidArgumentError("It must be a number from 0 to 65535.");
  return port;
}
