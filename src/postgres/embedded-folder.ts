/** The files of the embedded PostgreSQL: its password, its last port, and a data directory that its user can enter. */

import { createHash, randomBytes } from "node:crypto";
import { chmod, link, lstat, mkdir, readdir, readFile, realpath, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { type Binaries, findBinaries, reachableBinaries } from "./embedded-binaries.ts";
import { removeAbandonedDrafts, unlessThere, withDraft } from "./embedded-drafts.ts";
import { chooseRunner, handOver, type Runner, runCommand } from "./embedded-user.ts";

export interface Cluster {
  readonly runner: Runner;
  readonly binaries: Binaries;
  /** Its real path, as the server itself reports it. */
  readonly dataDirectory: string;
  /** Of the superuser `postgres`. */
  readonly password: string;
  readonly portFile: string;
}

/** Where root keeps what the user that runs PostgreSQL cannot reach elsewhere. */
const systemFolders = ["/var/lib/keyfleet", "/var/tmp/keyfleet"];

/** Finds the cluster of this folder, or makes it. */
export async function openCluster(options: {
  readonly directory: string;
  readonly environment: NodeJS.ProcessEnv;
  readonly log: (message: string) => void;
}): Promise<Cluster> {
  await mkdir(options.directory, { recursive: true, mode: 0o711 });
  const directory = await realpath(options.directory);
  await removeAbandonedDrafts(directory);
  const found = await findBinaries();
  const major = Number.parseInt(found.version, 10);
  const dataName = `postgres-${major}`;
  const runner = await chooseRunner(options.environment, path.join(directory, dataName));
  const binaries = await reachableBinaries(found, runner, async () =>
    runner.user ? systemFolder() : directory,
  );
  const password = await readOrCreate(path.join(directory, "postgres-password"));
  const parent = (await canUse(runner, directory)) ? directory : await folderElsewhere(directory);
  if (parent !== directory) {
    options.log(`data is kept in ${parent}: ${directory} is out of its user's reach`);
    await removeAbandonedDrafts(parent);
  }
  const others = (await readdir(parent)).filter((name) => /^postgres-\d+$/.test(name) && name !== dataName);
  if (others.length > 0) options.log(`data of another major version is left alone: ${others.join(", ")}`);

  const dataDirectory = path.join(parent, dataName);
  if ((await readMajor(dataDirectory)) === undefined) {
    await initialise({ runner, binaries, dataDirectory, password });
  }
  const have = await readMajor(dataDirectory);
  if (have !== major) throw new Error(`${dataDirectory} holds PostgreSQL ${have} data, and this is ${major}`);
  return { runner, binaries, dataDirectory, password, portFile: path.join(directory, "postgres-port") };
}

/** The port the server had last, so that connection strings survive a restart. */
export async function readLastPort(cluster: Cluster): Promise<number | undefined> {
  const port = Number(await readFile(cluster.portFile, "utf8").catch(() => ""));
  return Number.isInteger(port) && port > 1023 && port < 65_536 ? port : undefined;
}

/** Only a convenience, so a folder that cannot be written is no reason to fail. */
export async function writeLastPort(cluster: Cluster, port: number): Promise<void> {
  await writeFile(cluster.portFile, String(port)).catch(() => undefined);
}

/** A file of random text that only we may read. It appears under its name complete, and once. */
async function readOrCreate(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  await withDraft(path.dirname(file), async (draft) => {
    await writeFile(draft, randomBytes(24).toString("base64url"), { mode: 0o600, flag: "wx" });
    await link(draft, file).catch(unlessThere);
  });
  return await readFile(file, "utf8");
}

/** Whether that user can own and enter a folder here; found out by trying, for modes do not tell it all. */
async function canUse(runner: Runner, directory: string): Promise<boolean> {
  if (!runner.user) return true;
  return await withDraft(directory, async (draft) => {
    await mkdir(draft, { mode: 0o700 });
    await handOver(draft, runner);
    return (await runCommand(runner, "/bin/sh", ["-c", 'cd "$1" && : >file && test -O file', "sh", draft]))
      .succeeded;
  }).catch(() => false);
}

/** Named after the folder and a random id in it, so that to remove the folder is to begin afresh here too. */
async function folderElsewhere(directory: string): Promise<string> {
  const id = await readOrCreate(path.join(directory, "postgres-id"));
  const name = createHash("sha256").update(`${id}\n${directory}`).digest("hex").slice(0, 16);
  const folder = path.join(await systemFolder(), name);
  await mkdir(folder, { recursive: true });
  await chmod(folder, 0o711);
  return folder;
}

/** Root would run and write what lies here, so a folder that somebody else has prepared is passed over. */
async function systemFolder(): Promise<string> {
  for (const folder of systemFolders) {
    try {
      await mkdir(folder, { recursive: true });
      const status = await lstat(folder);
      if (!status.isDirectory() || status.uid !== 0 || (status.mode & 0o022) !== 0) continue;
      await chmod(folder, 0o711);
      return await realpath(folder);
    } catch {}
  }
  throw new Error(`embedded PostgreSQL found no folder for its files: tried ${systemFolders.join(" and ")}`);
}

async function readMajor(dataDirectory: string): Promise<number | undefined> {
  try {
    return Number.parseInt(await readFile(path.join(dataDirectory, "PG_VERSION"), "utf8"), 10);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** initdb works in a draft that is then renamed: two starts cannot meet in it, and the later one uses the first's. */
async function initialise(cluster: Omit<Cluster, "portFile">): Promise<void> {
  const { runner, binaries, dataDirectory, password } = cluster;
  await withDraft(path.dirname(dataDirectory), async (draft) => {
    const passwordFile = path.join(draft, "password");
    await mkdir(draft, { mode: 0o700 });
    await writeFile(passwordFile, `${password}\n`, { mode: 0o600, flag: "wx" });
    await handOver(passwordFile, runner);
    await handOver(draft, runner);
    const run = await runCommand(runner, path.join(binaries.folder, "bin", "initdb"), [
      `--pgdata=${draft}/data`,
      `--pwfile=${passwordFile}`,
      "--username=postgres",
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      "--locale-provider=builtin",
      "--builtin-locale=C.UTF-8",
      "--locale=C",
      "--no-instructions",
      "--no-sync",
    ]);
    if (!run.succeeded) throw new Error(`initdb failed: ${run.complaint}`);
    await rename(`${draft}/data`, dataDirectory).catch(unlessThere);
  });
}
