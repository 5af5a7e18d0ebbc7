/** What development gets for free under `.keyfleet/`: a real PostgreSQL, a fleet secret, a demo account. */

import { randomBytes } from "node:crypto";
import { existsSync, linkSync, mkdirSync, readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { AccountManagement } from "./accounts/manage-accounts.ts";
import type { Environment } from "./config.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "./postgres/embedded.ts";
import { adminScope } from "./protocol/oauth.ts";
import { parseSecret } from "./settings.ts";

/** Below the folder that the command was started in. */
const folderName = ".keyfleet";

export const demoUsername = "demo";
const demoScopes = ["orders:read", "orders:write", adminScope];

export function startDevelopmentDatabase(
  environment: Environment,
  log: (message: string) => void,
): Promise<EmbeddedPostgres> {
  return startEmbeddedPostgres({ directory: resolve(folderName), environment: { ...environment }, log });
}

/** The path of the secret that this folder's instances share; made (mode 0600) where there is none. */
export function developmentSecretFile(): string {
  mkdirSync(folderName, { recursive: true, mode: 0o711 });
  const path = resolve(join(folderName, "fleet-secret"));
  if (existsSync(path)) return path;
  // Linked when it is whole: another start in this folder must not read half of it.
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, randomBytes(32).toString("base64url"), { mode: 0o600 });
  try {
    linkSync(draft, path);
  } catch (error) {
    if ((error as { code?: unknown }).code !== "EEXIST") throw error;
  } finally {
    unlinkSync(draft);
  }
  return path;
}

export function readDevelopmentSecret(): Buffer {
  const secret = parseSecret(readFileSync(developmentSecretFile(), "utf8").trim());
  if (secret === undefined) throw new Error(`${developmentSecretFile()} holds no secret; remove it`);
  return secret;
}

/** On a database without accounts, makes the demo account and returns its password, told this once. */
export async function createDemoAccount(accounts: AccountManagement): Promise<string | undefined> {
  if ((await accounts.list()).length > 0) return undefined;
  const password = randomBytes(15).toString("base64url");
  try {
    await accounts.add(demoUsername, password, demoScopes);
  } catch (error) {
    // Another start in this folder may have been faster.
    if ((await accounts.list()).length > 0) return undefined;
    throw error;
  }
  return password;
}
