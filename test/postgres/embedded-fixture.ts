/** Folders, servers and processes for the tests of the embedded PostgreSQL, and their removal after each test. */

import type { ChildProcess } from "node:child_process";
import { execFileSync } from "node:child_process";
import { chmod, mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll } from "@jest/globals";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/postgres/embedded.ts";
import { isAlive, readLock } from "../../src/postgres/embedded-lock.ts";
import { query, ServerUser, type SystemUser, until } from "./embedded-server-user.ts";

/** Quick, and with as few processes as may be. */
const settings = { fsync: "off", autovacuum: "off", io_method: "sync", max_logical_replication_workers: "0" };
const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);

export class EmbeddedFixture {
  /** What servers of this process logged during the test. */
  readonly logs: string[] = [];
  #seed = "";
  readonly #folders: string[] = [];
  readonly #dataDirectories: string[] = [];
  readonly #handles: EmbeddedPostgres[] = [];
  readonly #users: ServerUser[] = [];
  readonly #strangers: (ChildProcess | Server)[] = [];

  constructor() {
    beforeAll(() => this.#makeSeed());
    afterEach(() => this.#cleanUp());
    afterAll(() => remove(path.dirname(this.#seed)));
  }

  /** Does not exist yet; its parent may be entered by any user. */
  async freshFolder(): Promise<string> {
    const parent = await temporaryFolder();
    this.#folders.push(parent);
    return path.join(parent, ".keyfleet");
  }

  /** Its cluster is made already, which saves a test the half second of making one. */
  async seededFolder(): Promise<string> {
    const folder = await this.freshFolder();
    execFileSync("cp", ["-a", this.#seed, folder]);
    await rm(path.join(folder, "postgres-port"));
    return folder;
  }

  async start(directory: string): Promise<EmbeddedPostgres> {
    const log = (message: string) => this.logs.push(message);
    const handle = await startEmbeddedPostgres({ directory, environment: process.env, flags, log });
    this.#handles.push(handle);
    this.#dataDirectories.push(handle.dataDirectory);
    return handle;
  }

  /** The same in a process of its own. */
  startProcess(directory: string, user?: SystemUser): ServerUser {
    const started = new ServerUser(directory, flags, user);
    this.#users.push(started);
    return started;
  }

  async occupy(port: number): Promise<Server> {
    const server = createServer().listen(port, "127.0.0.1");
    this.#strangers.push(server);
    await new Promise((resolve) => server.once("listening", resolve));
    return server;
  }

  endAfterwards(stranger: ChildProcess): void {
    this.#strangers.push(stranger);
  }

  async #makeSeed(): Promise<void> {
    this.#seed = path.join(await temporaryFolder(), ".keyfleet");
    const options = { directory: this.#seed, environment: process.env, flags };
    const server = await startEmbeddedPostgres(options);
    // Two thirds of the files, which nothing here needs and each test would copy.
    await query(server.url, "update pg_catalog.pg_database set datistemplate = false");
    for (const name of ["template0", "template1"]) await query(server.url, `drop database ${name}`);
    await server.stop();
  }

  async #cleanUp(): Promise<void> {
    await Promise.all(this.#handles.splice(0).map((handle) => handle.stop()));
    await Promise.all(this.#users.splice(0).map((user) => user.kill()));
    for (const stranger of this.#strangers.splice(0)) {
      if ("kill" in stranger) stranger.kill("SIGKILL");
      else stranger.close();
    }
    for (const directory of this.#dataDirectories.splice(0)) {
      await until(() => !isServed(directory));
      await remove(path.dirname(directory));
    }
    for (const folder of this.#folders.splice(0)) await remove(folder);
    this.logs.length = 0;
  }
}

function isServed(dataDirectory: string): boolean {
  const lock = readLock(dataDirectory);
  return lock !== undefined && isAlive(lock.pid);
}

export function serverPid(dataDirectory: string): number {
  const lock = readLock(dataDirectory);
  if (!lock) throw new Error("no server runs");
  return lock.pid;
}

/** What is in the folder and is neither data nor one of the files that stay. */
export async function leftovers(directory: string): Promise<readonly string[]> {
  const names = await readdir(directory);
  return names.filter((name) => !["postgres-18", "postgres-password", "postgres-port"].includes(name));
}

/** Servers whose process was killed may still be writing here for a moment. */
async function remove(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
}

async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "keyfleet-embedded-"));
  await chmod(folder, 0o711);
  return folder;
}
