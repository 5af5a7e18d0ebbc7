/** What `keyfleet accounts import` does with its lines. */

import { z } from "zod";
import type { AccountManagement } from "../accounts/manage-accounts.ts";
import { Refusal } from "../errors.ts";

const importedLine = z.object({
  username: z.string(),
  bcrypt_hash: z.string(),
  scopes: z.array(z.string()).default([]),
});

/** Imports what it can; a bad line is named, loses nothing else, and makes the command fail at its end. */
export async function importAccounts(management: AccountManagement, lines: readonly string[]): Promise<void> {
  let imported = 0;
  const problems: string[] = [];
  for (const [index, line] of lines.entries()) {
    if (line.trim() === "") continue;
    try {
      const { username, bcrypt_hash, scopes } = importedLine.parse(JSON.parse(line));
      await management.import({ username, bcryptHash: bcrypt_hash, scopes });
      imported += 1;
    } catch (error) {
      if (!(error instanceof Refusal || error instanceof SyntaxError || error instanceof z.ZodError))
        throw error;
      const reason = error instanceof Refusal ? error.message : "not an account as JSON";
      problems.push(`line ${index + 1}: ${reason}`);
    }
  }
  console.log(`imported ${imported} accounts`);
  if (problems.length > 0) throw new Refusal("invalid_request", { description: problems.join("\n") });
}
