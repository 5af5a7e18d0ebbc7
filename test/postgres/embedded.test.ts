/** The embedded PostgreSQL under restarts, races, crashes and takeovers. */

import { spawn } from "node:child_process";
import { chown, readdir, readFile, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "@jest/globals";
import { isAlive, readLock } from "../../src/postgres/embedded-lock.ts";
import { EmbeddedFixture, leftovers, serverPid } from "./embedded-fixture.ts";
import { isRoot, processField, processGroupOf, query, until } from "./embedded-server-user.ts";

const fixture = new EmbeddedFixture();

test("the first start makes the cluster; the second finds data and port again", async () => {
  const directory = await fixture.freshFolder();
  const first = await fixture.start(directory);
  expect(first.owner).toBe(true);
  expect(first.url).toMatch(/^postgres:\/\/postgres:[\w-]{32}@127\.0\.0\.1:\d+\/postgres$/);
  await query(first.url, "create table kept (id integer)");
  await first.stop();
  await expect(query(first.url, "select 1")).rejects.toThrow("ECONNREFUSED");

  const second = await fixture.start(directory);
  expect(second.url).toBe(first.url);
  expect(await query(second.url, "select count(*)::integer as rows from kept")).toEqual([{ rows: 0 }]);
});

test("a second start joins the running server, and its stop leaves it running", async () => {
  const directory = await fixture.seededFolder();
  const owner = await fixture.start(directory);
  const joiner = await fixture.start(directory);
  expect([owner.owner, joiner.owner]).toEqual([true, false]);
  expect(joiner.url).toBe(owner.url);
  await joiner.stop();
  expect(await query(owner.url, "select 1 as one")).toEqual([{ one: 1 }]);
});

test("of three starts at once in a fresh folder one owns the server and all can use it", async () => {
  const directory = await fixture.freshFolder();
  const all = [
    fixture.startProcess(directory),
    fixture.startProcess(directory),
    fixture.startProcess(directory),
  ];
  const started = await Promise.all(all.map((process) => process.started()));
  expect(started.filter(({ owner }) => owner)).toHaveLength(1);
  for (const { url } of started) expect(await query(url, "select 1 as one")).toEqual([{ one: 1 }]);
  expect(new Set(started.map(({ url }) => url)).size).toBe(1);
  expect(await readdir(path.dirname(started[0]?.dataDirectory ?? ""))).toContain("postgres-18");
  expect(await leftovers(directory)).toEqual([]);
});

test("when the owner is killed the server stops by itself, cleanly, and the next start works", async () => {
  const directory = await fixture.seededFolder();
  const owner = fixture.startProcess(directory);
  const { dataDirectory } = await owner.started();
  const pid = serverPid(dataDirectory);
  await owner.kill();
  await until(() => !isAlive(pid));
  expect(readLock(dataDirectory)).toBeUndefined();
  expect((await fixture.start(directory)).owner).toBe(true);
});

test("when everything is killed at once the next start recovers", async () => {
  const directory = await fixture.seededFolder();
  const owner = fixture.startProcess(directory);
  const { url, dataDirectory } = await owner.started();
  await query(url, "create table kept (id integer)");
  const pid = serverPid(dataDirectory);
  // The group in one go: a guard that saw another die would end the server cleanly.
  process.kill(-Number(processField(pid, "pgid")), "SIGKILL");
  process.kill(owner.pid, "SIGKILL");
  await until(() => !isAlive(pid));
  expect(readLock(dataDirectory)?.pid).toBe(pid);
  const next = await fixture.start(directory);
  expect(next.owner).toBe(true);
  expect(await query(next.url, "select count(*)::integer as rows from kept")).toEqual([{ rows: 0 }]);
});

test("a server that outlived its owner and its guards is joined", async () => {
  const directory = await fixture.seededFolder();
  const owner = fixture.startProcess(directory);
  const { dataDirectory } = await owner.started();
  const pid = serverPid(dataDirectory);
  let guards: number[] = [];
  // A process of the server's that has only just begun is still in its group.
  await until(() => {
    guards = processGroupOf(pid).filter((member) => member !== pid);
    return guards.length === 2;
  });
  // The one that waits for the end of the pipe first, or it would do its duty.
  for (const member of [...guards.sort((a, b) => b - a), owner.pid]) process.kill(member, "SIGKILL");
  await owner.exited;
  try {
    const next = await fixture.start(directory);
    expect(next.owner).toBe(false);
    expect(await query(next.url, "select 1 as one")).toEqual([{ one: 1 }]);
    await next.stop();
  } finally {
    process.kill(pid, "SIGINT");
  }
});

test("a stale lock whose number is another process by now is cleared away", async () => {
  const directory = await fixture.seededFolder();
  const first = await fixture.start(directory);
  const lock = path.join(first.dataDirectory, "postmaster.pid");
  const { uid, gid } = await stat(first.dataDirectory);
  const lines = (await readFile(lock, "utf8")).split("\n");
  await first.stop();
  const stranger = spawn("sleep", ["60"], { cwd: "/", stdio: "ignore", ...(isRoot ? { uid, gid } : {}) });
  fixture.endAfterwards(stranger);
  await writeFile(lock, [stranger.pid, ...lines.slice(1)].join("\n"), { mode: 0o600 });
  await chown(lock, uid, gid);
  expect((await fixture.start(directory)).owner).toBe(true);
  expect(isAlive(stranger.pid ?? 0)).toBe(true);
});

test("a joiner takes over when the owner stops, on the same port", async () => {
  const directory = await fixture.seededFolder();
  const owner = fixture.startProcess(directory);
  await owner.started();
  const joiner = await fixture.start(directory);
  await owner.stop();
  await until(() => joiner.owner);
  expect(await query(joiner.url, "select 1 as one")).toEqual([{ one: 1 }]);
});

test("of two joiners one takes over when the owner is killed, and the other joins it", async () => {
  const directory = await fixture.seededFolder();
  const owner = fixture.startProcess(directory);
  const { url, dataDirectory } = await owner.started();
  const joiners = [fixture.startProcess(directory), fixture.startProcess(directory)];
  for (const joiner of joiners) expect((await joiner.started()).owner).toBe(false);
  const pid = serverPid(dataDirectory);
  await owner.kill();
  const owners = () => joiners.filter(({ told }) => told.some((event) => event["owner"] === true));
  await until(
    () =>
      owners().length > 0 &&
      joiners.every(({ told }) =>
        told.some(({ log }) => /^(joined|started)/.test(`${log}`) && !`${log}`.includes(`pid ${pid},`)),
      ),
  );
  expect(owners()).toHaveLength(1);
  expect(await query(url, "select 1 as one")).toEqual([{ one: 1 }]);
});

test("an owner starts its server again when that is killed", async () => {
  const directory = await fixture.seededFolder();
  const owner = await fixture.start(directory);
  process.kill(serverPid(owner.dataDirectory), "SIGKILL");
  await until(() => !owner.owner);
  await until(() => owner.owner);
  expect(await query(owner.url, "select 1 as one")).toEqual([{ one: 1 }]);
});

test("a takeover waits for the port of the connection strings", async () => {
  const directory = await fixture.seededFolder();
  const owner = await fixture.start(directory);
  const joiner = await fixture.start(directory);
  await owner.stop();
  const occupant = await fixture.occupy(owner.port);
  await until(() => fixture.logs.includes(`port ${owner.port} is taken`));
  occupant.close();
  await until(() => joiner.owner);
  expect(await query(joiner.url, "select 1 as one")).toEqual([{ one: 1 }]);
});

test("stopping in the middle of a takeover leaves no server behind", async () => {
  const directory = await fixture.seededFolder();
  const owner = await fixture.start(directory);
  const joiner = await fixture.start(directory);
  await owner.stop();
  expect(readLock(joiner.dataDirectory)).toBeUndefined();
  await until(() => readLock(joiner.dataDirectory) !== undefined);
  await Promise.all([joiner.stop(), joiner.stop()]);
  expect(joiner.owner).toBe(false);
  expect(readLock(joiner.dataDirectory)).toBeUndefined();
});

test("where the last port is taken another one is used, and remembered", async () => {
  const directory = await fixture.seededFolder();
  const first = await fixture.start(directory);
  await first.stop();
  await fixture.occupy(first.port);
  const second = await fixture.start(directory);
  expect(second.port).not.toBe(first.port);
  await second.stop();
  expect((await fixture.start(directory)).port).toBe(second.port);
});

test("Ctrl-C does not reach the server", async () => {
  const owner = fixture.startProcess(await fixture.seededFolder());
  const { url, dataDirectory } = await owner.started();
  process.kill(-owner.pid, "SIGINT");
  await until(() => owner.told.some(({ signal }) => signal === "SIGINT"));
  expect(processField(serverPid(dataDirectory), "pgid")).not.toBe(processField(owner.pid, "pgid"));
  expect(await query(url, "select 1 as one")).toEqual([{ one: 1 }]);
});
