/** `keyfleet accounts …` */

import { readFileSync } from "node:fs";
import type { Command } from "commander";
import type { Account } from "../accounts/account.ts";
import type { AccountManagement } from "../accounts/manage-accounts.ts";
import type { Environment } from "../config.ts";
import { Refusal } from "../errors.ts";
import { isoTime, printable, printRows } from "./output.ts";
import { readNewPassword } from "./prompt.ts";
import { withAccounts, withWorkspace } from "./workspace.ts";

export function addAccountsCommand(program: Command, environment: Environment): void {
  const accounts = program.command("accounts").description("who may log in, with what scopes");
  const manage = <Result>(work: (management: AccountManagement) => Promise<Result>) =>
    withWorkspace(environment, ({ config, secrets, pool }) => withAccounts(config, secrets, pool, work));
  const collect = (value: string, previous: string[]) => [...previous, value];

  accounts
    .command("add <name>")
    .description("makes an account; its password comes from a prompt or from stdin")
    .option("--scope <scope>", "a scope the account has; may be repeated", collect, [])
    .action(async (name: string, { scope }: { scope: string[] }) => {
      const password = await readNewPassword();
      const { id, username } = await manage((management) => management.add(name, password, scope));
      console.log(`added ${username} (${id})`);
    });
  accounts
    .command("list")
    .option("--json", "as JSON")
    .action(async ({ json = false }: { json?: boolean }) => {
      const listed = await manage((management) => management.list());
      const rows = listed.map(({ account, createdAtMs, liveSessions }) => ({
        username: account.username,
        id: account.id,
        enabled: account.enabled,
        must_change_password: account.mustChangePassword,
        scopes: account.scopes,
        sessions: liveSessions,
        created_at: isoTime(createdAtMs),
      }));
      printRows(rows, json);
    });
  accounts
    .command("import <file>")
    .description("JSON lines: username, bcrypt_hash (over the password alone), scopes")
    .action(async (file: string) => {
      const lines = readFileSync(file, "utf8").split("\n");
      const { importAccounts } = await import("./import-accounts.ts");
      await manage((management) => importAccounts(management, lines));
    });
  accounts
    .command("set-password <name>")
    .description("sets a new password and ends the account's sessions")
    .action(async (name: string) => {
      const password = await readNewPassword();
      report("set the password of", await manage((management) => management.setPassword(name, password)));
    });
  const change = (
    signature: string,
    description: string,
    done: string,
    act: (management: AccountManagement, name: string, scope: string) => Promise<Account>,
  ) =>
    accounts
      .command(signature)
      .description(description)
      .action(async (name: string, scope: unknown) => {
        report(done, await manage((management) => act(management, name, String(scope))));
      });
  change("disable <name>", "refuses its logins and ends its sessions", "disabled", (m, name) =>
    m.disable(name),
  );
  change("enable <name>", "allows its logins again", "enabled", (m, name) => m.enable(name));
  change("grant <name> <scope>", "gives it a scope", "changed", (m, name, scope) => m.grant(name, scope));
  change("withdraw <name> <scope>", "takes a scope and ends its sessions", "changed", (m, name, scope) =>
    m.withdraw(name, scope),
  );
  changeOneOrAll(
    accounts
      .command("require-password-change [name]")
      .description("refuses logins until it has a new password"),
    manage,
    "must change its password:",
    (management, name) => management.requirePasswordChange(name),
  );
  changeOneOrAll(
    accounts.command("end-all-sessions [name]").description("logs it out everywhere"),
    manage,
    "ended all sessions of",
    (management, name) => management.endAllSessions(name),
  );
}

function report(done: string, account: Account): void {
  console.log(`${done} ${account.username}`);
}

type Manage = <Result>(work: (management: AccountManagement) => Promise<Result>) => Promise<Result>;

function changeOneOrAll(
  command: Command,
  manage: Manage,
  done: string,
  act: (management: AccountManagement, name: string) => Promise<Account>,
): void {
  command
    .option("--all", "every account")
    .action(async (name: string | undefined, { all = false }: { all?: boolean }) => {
      if ((name === undefined) === !all) command.error("give either a name or --all");
      await manage(async (management) => {
        if (name === undefined) await changeAll(management, done, act);
        else report(done, await act(management, name));
      });
    });
}

/** Goes on past an account that is refused, such as a row that no instance wrote: it must not shield the others. */
async function changeAll(
  management: AccountManagement,
  done: string,
  act: (management: AccountManagement, name: string) => Promise<Account>,
): Promise<void> {
  let refused = 0;
  for (const { account } of await management.list()) {
    try {
      report(done, await act(management, account.username));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      refused += 1;
      console.error(`${printable(account.username)}: ${error.message}`);
    }
  }
  if (refused > 0) {
    throw new Refusal("invalid_request", { description: `${refused} of them were left as they were` });
  }
}
