import { execFile, spawnSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import { isAlive, readLock } from "../../src/postgres/embedded-lock.ts";
import { awsJwtVerify, fastJwtWithGetJwks, jose, oauth4webapi } from "../interop/stock-consumers.ts";
import { startTlsFront } from "../interop/tls-front.ts";
import { serverPid } from "../postgres/embedded-fixture.ts";
import { isRoot, processField } from "../postgres/embedded-server-user.ts";
import { eventually, login } from "../support/accounts.ts";
import { type Clone, makeClone, type Started, toldLogin, typeLogin, untilBanner } from "./clone.ts";
import { runCommand } from "./run-command.ts";

const testAsRoot = isRoot ? test : test.skip;

let clone: Clone;
let dataDirectory: string;

/** The first starts ever, two at once. */
let first: {
  readonly starts: readonly Started[];
  readonly urls: readonly string[];
  /** Of the one that tells the password: the line to log in with, and what is in it. */
  readonly loginLine: string;
  readonly url: string;
  readonly password: string;
};

beforeAll(async () => {
  clone = makeClone();
  const starts = [clone.start(), clone.start()];
  const urls = (await Promise.all(starts.map(untilBanner))).flat();
  dataDirectory = await clone.dataDirectory();
  const loginLine = toldLogin(starts.map((start) => start.output()).join(""));
  const [, url = "", password = ""] = /(http:\S+)\/login .*password=(\S+)/.exec(loginLine) ?? [];
  first = { starts, urls, loginLine, url, password };
}, 120_000);
afterAll(() => clone.remove());

const databasePid = () => serverPid(dataDirectory);

async function kidsAt(url: string): Promise<string[]> {
  const response = await fetch(`${url}/.well-known/jwks.json`);
  return ((await response.json()) as { keys: { kid: string }[] }).keys.map(({ kid }) => kid);
}

/** By the command. */
async function listedNames(): Promise<string[]> {
  const options = { folder: clone.folder, settings: { FLEET_SECRET: "" } };
  const { code, stdout, stderr } = await runCommand(["accounts", "list", "--json"], options);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return (JSON.parse(stdout) as { username: string }[]).map(({ username }) => username);
}

test("two first starts in one folder share its database, and one of them tells how to log in", async () => {
  const [kids = [], otherKids = []] = await Promise.all(first.urls.map(kidsAt));
  expect(kids.filter((kid) => otherKids.includes(kid)).length).toBeGreaterThanOrEqual(2);

  const output = first.starts.map((start) => start.output()).join("");
  expect(output.match(/told this once/g)).toHaveLength(1);
  const secretFile = join(clone.folder, ".keyfleet/fleet-secret");
  expect(statSync(secretFile).mode & 0o777).toBe(0o600);
  expect(output).not.toContain(readFileSync(secretFile, "utf8"));
  expect(await listedNames()).toEqual(["demo"]);
}, 60_000);

test("the line that it prints logs in, and stock consumers with default settings verify the token against it", async () => {
  const { access_token } = await typeLogin(first.loginLine);
  const tlsFront = await startTlsFront(first.url);
  const trust = { issuer: first.url, audience: first.url, tlsFront };
  try {
    const consumers = [jose, awsJwtVerify, fastJwtWithGetJwks, () => oauth4webapi(trust, "oidc")];
    for (const create of consumers) {
      const consumer = await create(trust);
      expect(await consumer.verify(access_token)).toBe(decodeJwt(access_token).sub);
      await consumer.close();
    }
  } finally {
    await tlsFront.close();
  }
});

testAsRoot("root: PostgreSQL runs as a user who can enter neither the clone nor its binaries", () => {
  const { uid, gid } = statSync(dataDirectory);
  const canEnter = (folder: string) => spawnSync("ls", [folder], { cwd: "/", uid, gid }).status === 0;
  expect([canEnter(dataDirectory), canEnter(clone.folder)]).toEqual([true, false]);
  expect(processField(databasePid(), "uid")).toBe(String(uid));
  expect(processField(databasePid(), "args")).toMatch(/^\/var\/(lib|tmp)\/keyfleet\/pg-/);
});

test("a build puts files in place whole: what another start is loading is not emptied and written again", async () => {
  const built = join(clone.folder, "dist/main.js");
  const loading = openSync(built, "r");
  const text = readFileSync(built, "utf8");
  try {
    rmSync(join(clone.folder, "dist/.tsbuildinfo"));
    // Of a source that was deleted, and of a build that was killed: no process has so high a number.
    writeFileSync(join(clone.folder, "dist/cli/deleted.d.ts"), "");
    mkdirSync(join(clone.folder, "dist-4194305"));
    await promisify(execFile)("npm", ["run", "build"], { cwd: clone.folder });
    expect(statSync(built).ino).not.toBe(fstatSync(loading).ino);
    expect([readFileSync(loading, "utf8"), readFileSync(built, "utf8")]).toEqual([text, text]);
    expect(readdirSync(clone.folder).filter((name) => name.startsWith("dist"))).toEqual(["dist"]);
    expect(existsSync(join(clone.folder, "dist/cli/deleted.d.ts"))).toBe(false);
  } finally {
    closeSync(loading);
  }
});

test("npm start goes on after a kill -9; --instances 3 joins it with keys of its own, and both end at SIGTERM", async () => {
  const firstDatabase = databasePid();
  for (const { child } of first.starts) child.kill("SIGKILL");
  await Promise.all(first.starts.map(({ exited }) => exited));
  await eventually(() => !isAlive(firstDatabase));

  const second = clone.start();
  const [secondUrl = ""] = await untilBanner(second);
  expect(second.output()).not.toContain(first.password);
  await login(secondUrl, { username: "demo", password: first.password });
  const secondDatabase = databasePid();
  expect(isAlive(secondDatabase)).toBe(true);
  const ofOne = await kidsAt(secondUrl);

  const fleet = clone.start("--instances", "3");
  const urls = await untilBanner(fleet);
  expect(urls).toHaveLength(3);
  for (const url of urls) {
    const added = (await kidsAt(url)).filter((kid) => !ofOne.includes(kid));
    expect(added.length).toBeGreaterThanOrEqual(6);
  }
  for (const { child } of [second, fleet]) child.kill("SIGTERM");
  expect(await Promise.all([second.exited, fleet.exited])).toEqual([0, 0]);
  expect(second.output()).toContain("stopped");
  expect(isAlive(secondDatabase)).toBe(false);
}, 120_000);

test("a command starts the database for the call where nothing runs", async () => {
  expect(readLock(dataDirectory)).toBeUndefined();
  expect(await listedNames()).toEqual(["demo"]);
  expect(readLock(dataDirectory)).toBeUndefined();
});
