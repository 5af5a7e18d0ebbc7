/** `keyfleet sessions …` and `keyfleet audit` */

import { type Command, InvalidArgumentError } from "commander";
import { normalizeUsername } from "../accounts/account.ts";
import type { Environment } from "../config.ts";
import { Refusal } from "../errors.ts";
import { createAccountStore } from "../postgres/accounts.ts";
import { listAuditEvents } from "../postgres/audit-events.ts";
import { endSession, listSessionsOf } from "../postgres/session-administration.ts";
import { isoTime, printRows } from "./output.ts";
import { commandActing, withWorkspace } from "./workspace.ts";

const uuidPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export function addSessionsCommand(program: Command, environment: Environment): void {
  const sessions = program.command("sessions").description("who is logged in");
  sessions
    .command("list <name>")
    .option("--json", "as JSON")
    .action(async (name: string, { json = false }: { json?: boolean }) => {
      const rows = await withWorkspace(environment, async ({ pool, config }) => {
        const { account } = await createAccountStore(pool).find(normalizeUsername(name) ?? "", "");
        if (account === undefined) throw refused("there is no account of this name");
        return listSessionsOf(pool, account.id, config.refreshTokenTtlMs);
      });
      printRows(
        rows.map(({ id, clientId, address, userAgent, createdAtMs, lastUsedAtMs }) => ({
          id,
          client: clientId,
          address,
          user_agent: userAgent,
          created_at: isoTime(createdAtMs),
          last_used_at: isoTime(lastUsedAtMs),
        })),
        json,
      );
    });
  sessions
    .command("revoke <id>")
    .description("ends a session; every verifier refuses its tokens")
    .action(async (id: string) => {
      if (!uuidPattern.test(id)) throw refused("a session's id is a UUID");
      const ended = await withWorkspace(environment, ({ pool }) =>
        endSession(pool, id, "revoked", commandActing),
      );
      if (!ended) throw refused("there is no live session of this id");
      console.log(`ended ${id}`);
    });
}

export function addAuditCommand(program: Command, environment: Environment): void {
  program
    .command("audit")
    .description("the latest events: who did what, from where")
    .option("--limit <count>", "how many", readLimit, 100)
    .option("--json", "as JSON")
    .action(async ({ limit, json = false }: { limit: number; json?: boolean }) => {
      const events = await withWorkspace(environment, ({ pool }) => listAuditEvents(pool, limit));
      printRows(
        events.map(({ atMs, id, ...event }) => ({ id, at: isoTime(atMs), ...event })),
        json,
      );
    });
}

function refused(description: string): Refusal {
  return new Refusal("invalid_request", { description });
}

function readLimit(text: string): number {
  const limit = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (limit < 1) throw new InvalidArgumentError("It must be a number from 1 to 999999.");
  return limit;
}
