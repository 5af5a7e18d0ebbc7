/** What a command works on: settings, database, accounts; opened for the call and closed after it. */

import { readFileSync } from "node:fs";
import { type AccountManagement, createAccountManagement } from "../accounts/manage-accounts.ts";
import { createPasswordHasher } from "../accounts/password-hasher.ts";
import {
  commonPasswordsUrl,
  createPasswordPolicy,
  parseCommonPasswords,
} from "../accounts/password-policy.ts";
import type { Acting } from "../audit.ts";
import { type Config, type Environment, readConfig } from "../config.ts";
import { readDevelopmentSecret, startDevelopmentDatabase } from "../development.ts";
import { createFleetSecrets, type FleetSecrets } from "../fleet-secret.ts";
import { createAccountStore } from "../postgres/accounts.ts";
import { migrate } from "../postgres/migrate.ts";
import { commandTimeouts, createPool, endPool, type Pool } from "../postgres/pool.ts";

export const passwordWorkerUrl = new URL("../accounts/password-worker.js", import.meta.url);

/** Whoever types a command is somebody with the settings: the database and the fleet's secret. */
export const commandActing: Acting = { actor: "command", instanceId: null, address: null };

/** A fixed moment to try schedules out at: the settings must mean the same on a machine whose clock is wrong. */
const someMomentMs = Date.UTC(2026, 0, 1);

export function loadConfig(environment: Environment): ReturnType<typeof readConfig> {
  return readConfig(environment, someMomentMs);
}

/** The database that is named, or the one of this folder, which is then ended with `stop`. */
export interface Database {
  readonly url: string;
  readonly listenUrl: string;
  readonly embedded: boolean;
  /** Whether it was started by this process, and so nobody was connected to it. */
  readonly started: boolean;
  stop(): Promise<void>;
}

export async function openDatabase(
  config: Config,
  environment: Environment,
  log: (message: string) => void,
): Promise<Database> {
  if (config.databaseUrl !== undefined) {
    const listenUrl = config.databaseListenUrl ?? config.databaseUrl;
    return {
      url: config.databaseUrl,
      listenUrl,
      embedded: false,
      started: false,
      stop: async () => undefined,
    };
  }
  const embedded = await startDevelopmentDatabase(environment, log);
  return {
    url: embedded.url,
    listenUrl: embedded.url,
    embedded: true,
    started: embedded.owner,
    stop: () => embedded.stop(),
  };
}

/** In development a secret is made where none is set. */
export function secretsOf(config: Config): FleetSecrets {
  const also = config.fleetSecretAlso === undefined ? [] : [config.fleetSecretAlso];
  return createFleetSecrets(config.fleetSecret ?? readDevelopmentSecret(), also);
}

/** Runs `work` with what manages accounts; hashes on one thread, started only for it. */
export async function withAccounts<Result>(
  config: Config,
  secrets: FleetSecrets,
  pool: Pool,
  work: (accounts: AccountManagement) => Promise<Result>,
): Promise<Result> {
  const hasher = createPasswordHasher({
    workerUrl: passwordWorkerUrl,
    cost: config.bcryptCost,
    threads: 1,
    isEager: false,
    queueLimit: 1,
  });
  const policy = createPasswordPolicy({
    minLengthCodePoints: config.passwordMinLength,
    commonPasswords: parseCommonPasswords(readFileSync(commonPasswordsUrl, "utf8")),
  });
  try {
    return await work(
      createAccountManagement({
        store: createAccountStore(pool),
        secrets,
        hasher,
        policy,
        who: commandActing,
      }),
    );
  } finally {
    await hasher.close();
  }
}

export interface Workspace {
  readonly config: Config;
  readonly secrets: FleetSecrets;
  readonly pool: Pool;
}

/** Opens the database for one command, an embedded one started and migrated where it has to be. */
export async function withWorkspace<Result>(
  environment: Environment,
  work: (workspace: Workspace) => Promise<Result>,
): Promise<Result> {
  const { config } = loadConfig(environment);
  const database = await openDatabase(config, environment, () => undefined);
  try {
    if (database.embedded) await migrate({ url: database.url });
    const pool = createPool({
      url: database.url,
      max: 2,
      timeouts: commandTimeouts,
      onError: () => undefined,
    });
    try {
      return await work({ config, secrets: secretsOf(config), pool });
    } finally {
      await endPool(pool);
    }
  } finally {
    await database.stop();
  }
}
