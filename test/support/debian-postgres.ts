/** Debian's own PostgreSQL (package `postgresql`): it brings pg_dump and pg_dumpall, which the embedded one lacks. */

import { randomBytes } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { mkdir, realpath, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Binaries } from "../../src/postgres/embedded-binaries.ts";
import type { Cluster, openCluster } from "../../src/postgres/embedded-folder.ts";
import { chooseRunner, handOver, runCommand } from "../../src/postgres/embedded-user.ts";

const root = "/usr/lib/postgresql";

/** The newest that is installed, from version 15 on; undefined where there is none. */
export const debianBinaries = newestBinaries();

function newestBinaries(): Binaries | undefined {
  const programs = ["initdb", "postgres", "pg_dump", "pg_dumpall"];
  const versions = (existsSync(root) ? readdirSync(root) : [])
    .map(Number)
    .filter((version) => programs.every((name) => existsSync(path.join(root, `${version}/bin`, name))));
  const version = Math.max(...versions);
  return version >= 15 ? { folder: path.join(root, String(version)), version: String(version) } : undefined;
}

/** A new cluster of it. Its initdb may be older than the one that `openCluster` is made for. */
export async function openDebianCluster(options: Parameters<typeof openCluster>[0]): Promise<Cluster> {
  if (debianBinaries === undefined) throw new Error(`no PostgreSQL in ${root}`);
  const directory = await realpath(options.directory);
  const dataDirectory = path.join(directory, "data");
  const passwordFile = path.join(directory, "password");
  const password = randomBytes(24).toString("base64url");
  const runner = await chooseRunner(options.environment, dataDirectory);
  await mkdir(dataDirectory, { mode: 0o700 });
  await writeFile(passwordFile, password, { mode: 0o600 });
  for (const file of [dataDirectory, passwordFile]) await handOver(file, runner);
  const run = await runCommand(runner, path.join(debianBinaries.folder, "bin/initdb"), [
    `--pgdata=${dataDirectory}`,
    `--pwfile=${passwordFile}`,
    "--username=postgres",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",
  ]);
  if (!run.succeeded) throw new Error(`initdb failed: ${run.complaint}`);
  const portFile = path.join(directory, "port");
  return { runner, binaries: debianBinaries, dataDirectory, password, portFile };
}
