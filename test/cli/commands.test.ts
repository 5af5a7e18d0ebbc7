import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import bcrypt from "bcrypt";
import { createAccountStore } from "../../src/postgres/accounts.ts";
import { person, strangersAccount } from "../fleet/forged-rows.ts";
import { addAccount, alice, login, manageAccounts, postLogin, testActing } from "../support/accounts.ts";
import { emptyDatabase, freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { type CommandOptions, type CommandResult, runCommand } from "./run-command.ts";

let database: TestDatabase;
let instance: TestInstance;
let folder: string;

beforeAll(async () => {
  database = await freshDatabase();
  folder = mkdtempSync(join(tmpdir(), "keyfleet-cli-"));
  instance = await startInstance({ databaseUrl: database.url });
});
afterAll(async () => {
  await instance.stop();
  await database.drop();
  rmSync(folder, { recursive: true });
});

/** A command on this file's database. */
function run(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  return runCommand(argv, { ...options, settings: { DATABASE_URL: database.url, ...options.settings } });
}

/** Where the command that adds is not what is shown. */
function add(username: string, ...scopes: string[]): Promise<void> {
  return addAccount(database.url, { username, password: alice.password, scopes });
}

async function statusOfLogin(username: string, password: string = alice.password): Promise<string> {
  const response = await postLogin(instance.url, { username, password });
  const body = (await response.json()) as { error?: string };
  return body.error ?? "success";
}

describe("accounts", () => {
  test("add takes the password from stdin, and the account can log in", async () => {
    const flags = ["--scope", "orders:read", "--scope", "orders:write"];
    const { code, stderr } = await run(["accounts", "add", "Ann", ...flags], {
      stdin: `${alice.password}\n`,
    });
    expect([code, stderr]).toEqual([0, ""]);
    const { scope } = await login(instance.url, { username: "ann" });
    expect(scope).toBe("orders:read orders:write");
  });

  test("add refuses a name that is taken, a weak password and no password, and says why", async () => {
    await add("taken");
    const again = await run(["accounts", "add", "TAKEN"], { stdin: alice.password });
    expect([again.code, again.stderr]).toEqual([1, "an account of this name exists\n"]);
    const short = await run(["accounts", "add", "weak"], { stdin: "short" });
    expect(short.code).toBe(1);
    expect(short.stderr).toMatch(/15/);
    expect((await run(["accounts", "add", "weak"])).stderr).toBe("no password on stdin\n");
    expect((await run(["accounts", "add", "w\u0001"], { stdin: alice.password })).code).toBe(1);
  });

  test("list is a table, or JSON, and shows no hash", async () => {
    await add("listed", "a");
    await login(instance.url, { username: "listed" });
    const { stdout } = await run(["accounts", "list", "--json"]);
    const rows = JSON.parse(stdout) as { username: string }[];
    expect(rows.find(({ username }) => username === "listed")).toMatchObject({
      enabled: true,
      scopes: ["a"],
      sessions: 1,
    });
    expect(stdout).not.toMatch(/"password"|\$2b\$/);
    expect((await run(["accounts", "list"])).stdout).toMatch(/^username +id +enabled/);
  });

  test("disable, enable, set-password, require-password-change take effect at once", async () => {
    await add("changing");
    expect((await run(["accounts", "disable", "changing"])).code).toBe(0);
    expect(await statusOfLogin("changing")).toBe("invalid_credentials");
    await run(["accounts", "enable", "changing"]);
    expect(await statusOfLogin("changing")).toBe("success");
    const other = "another rather long password";
    await run(["accounts", "set-password", "changing"], { stdin: other });
    expect(await statusOfLogin("changing")).toBe("invalid_credentials");
    expect(await statusOfLogin("changing", other)).toBe("success");
    await run(["accounts", "require-password-change", "changing"]);
    expect(await statusOfLogin("changing", other)).toBe("password_change_required");
  });

  test("grant and withdraw change scopes", async () => {
    await add("scoped", "a");
    await run(["accounts", "grant", "scoped", "b"]);
    expect((await login(instance.url, { username: "scoped" })).scope).toBe("a b");
    await run(["accounts", "withdraw", "scoped", "a"]);
    expect((await login(instance.url, { username: "scoped" })).scope).toBe("b");
  });

  test("end-all-sessions ends those of one account, or of all", async () => {
    await add("ending");
    await login(instance.url, { username: "ending" });
    const sessions = async () => {
      const listed = await manageAccounts(database.url, (accounts) => accounts.list());
      return listed.find(({ account }) => account.username === "ending")?.liveSessions;
    };
    expect(await sessions()).toBe(1);
    await run(["accounts", "end-all-sessions", "ending"]);
    expect(await sessions()).toBe(0);
    await login(instance.url, { username: "ending" });
    expect((await run(["accounts", "end-all-sessions", "--all"])).code).toBe(0);
    expect(await sessions()).toBe(0);
    expect((await run(["accounts", "end-all-sessions"])).code).toBe(2);
  });

  test("--all goes past a row that no instance wrote, says so, and leaves no other out", async () => {
    await add("after");
    const { session_id } = await login(instance.url, { username: "after" });
    const stranger = strangersAccount(person("aaa"));
    await createAccountStore(database.pool).insert(stranger, testActing);
    for (const command of ["end-all-sessions", "require-password-change"]) {
      const { code, stdout, stderr } = await run(["accounts", command, "--all"]);
      expect(code).toBe(1);
      expect(stdout).toMatch(/ after\n/);
      expect(stderr).toMatch(/^aaa: .*not written by Keyfleet.*\n1 of them were left as they were\n$/);
    }
    const { rows } = await database.pool.query("select end_reason from keyfleet.sessions where id = $1", [
      session_id,
    ]);
    expect(rows).toEqual([{ end_reason: "all_sessions_ended" }]);
    expect(await statusOfLogin("after")).toBe("password_change_required");
    await database.pool.query("delete from keyfleet.accounts where id = $1", [stranger.id]);
  });

  test("import takes bcrypt hashes of other systems; a bad line is named and loses no other", async () => {
    const hash = bcrypt.hashSync("a password from elsewhere", 4);
    const path = join(folder, "accounts.jsonl");
    const lines = [
      { username: "moved", bcrypt_hash: hash, scopes: ["a"] },
      { username: "bad", bcrypt_hash: "$1$md5" },
      { username: "slow", bcrypt_hash: hash.replace("$04$", "$16$") },
    ];
    writeFileSync(path, `${lines.map((line) => JSON.stringify(line)).join("\n")}\nnot json\n`);
    const { code, stdout, stderr } = await run(["accounts", "import", path]);
    expect([code, stdout]).toEqual([1, "imported 1 accounts\n"]);
    expect(stderr).toMatch(/line 2: .*bcrypt[\s\S]*line 3: .*cost 4 to 15[\s\S]*line 4: /);
    expect(await statusOfLogin("moved", "a password from elsewhere")).toBe("success");
    expect(await statusOfLogin("moved", "a password from elsewhere")).toBe("success");
  });

  test("a name that is not there is refused", async () => {
    const { code, stderr } = await run(["accounts", "disable", "nobody"]);
    expect([code, stderr]).toEqual([1, "there is no account of this name\n"]);
  });
});

test("clients: add prints the secret once, list shows none, remove refuses it from then on", async () => {
  const flags = ["--audience", instance.issuer, "--scope", "orders:write", "--scope", "orders:read"];
  const settings = { ISSUER: instance.issuer };
  const added = await run(["clients", "add", "shop", ...flags], { settings });
  expect([added.code, added.stdout]).toEqual([0, expect.stringMatching(/^kfs_[\w-]{43}\n$/)]);
  const ask = () =>
    fetch(`${instance.url}/token`, {
      method: "POST",
      headers: { authorization: `Basic ${Buffer.from(`shop:${added.stdout.trim()}`).toString("base64")}` },
      body: new URLSearchParams({ grant_type: "client_credentials" }),
    });
  expect((await ask()).status).toBe(200);
  const listed = await run(["clients", "list", "--json"]);
  expect(JSON.parse(listed.stdout)).toMatchObject([
    { id: "shop", audiences: [instance.issuer], scopes: ["orders:read", "orders:write"] },
  ]);
  expect(listed.stdout).not.toMatch(/kfs_|secret|hash/);
  for (const [argv, reason] of [
    [["add", "shop"], /a client of this id exists/],
    [["add", "first-party"], /a client id has/],
    [["add", "other", "--audience", "https://elsewhere.example"], /an audience is not one/],
    [["remove", "nobody"], /there is no client/],
  ] as const) {
    const { code, stderr } = await run(["clients", ...argv], { settings });
    expect([code, stderr]).toEqual([1, expect.stringMatching(reason)]);
  }
  expect((await run(["clients", "remove", "shop"])).code).toBe(0);
  expect((await ask()).status).toBe(401);
});

test("sessions: list shows a person's own, revoke ends one at once", async () => {
  await add("visitor");
  const { session_id, access_token } = await login(instance.url, { username: "visitor" });
  const userinfo = async () =>
    (await fetch(`${instance.url}/userinfo`, { headers: { authorization: `Bearer ${access_token}` } }))
      .status;
  expect(await userinfo()).toBe(200);
  const listed = await run(["sessions", "list", "Visitor", "--json"]);
  expect(JSON.parse(listed.stdout)).toMatchObject([{ id: session_id, address: "127.0.0.1" }]);
  expect((await run(["sessions", "revoke", session_id])).code).toBe(0);
  expect(await userinfo()).toBe(401);
  expect(JSON.parse((await run(["sessions", "list", "visitor", "--json"])).stdout)).toEqual([]);
  for (const id of [session_id, "x"]) expect((await run(["sessions", "revoke", id])).code).toBe(1);
  expect((await run(["sessions", "list", "nobody"])).code).toBe(1);
});

test("keys list and instances list show the fleet", async () => {
  const keys = JSON.parse((await run(["keys", "list", "--json"])).stdout) as Record<string, unknown>[];
  expect(keys.filter((key) => key["instance"] === instance.instanceId).map((key) => key["state"])).toEqual(
    expect.arrayContaining(["active", "published"]),
  );
  const instances = JSON.parse((await run(["instances", "list", "--json"])).stdout) as Record<
    string,
    unknown
  >[];
  expect(instances).toEqual([expect.objectContaining({ id: instance.instanceId, alive: true, keys: 2 })]);
});

describe("token inspect", () => {
  test("says that a token is good, and what it says", async () => {
    await add("inspected");
    const { access_token } = await login(instance.url, { username: "inspected" });
    const { code, stdout } = await run(["token", "inspect"], { stdin: access_token });
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ header: { typ: "at+jwt" }, key: "active", verdict: "valid" });
  });

  test("says what is wrong with one that is not", async () => {
    await add("forged");
    const { access_token } = await login(instance.url, { username: "forged" });
    const [header, , signature] = access_token.split(".");
    const claims = Buffer.from(JSON.stringify({ sub: "someone", exp: 9_999_999_999 })).toString("base64url");
    const { code, stderr } = await run(["token", "inspect"], { stdin: `${header}.${claims}.${signature}` });
    expect([code, stderr]).toEqual([1, "its signature is wrong\n"]);
    expect((await run(["token", "inspect"], { stdin: "nonsense" })).stderr).toBe(
      "this is not a signed JWT\n",
    );
  });
});

describe("exit codes", () => {
  test("2 for a command that is not there, with a hint", async () => {
    expect((await run(["acounts"])).code).toBe(2);
    expect((await run(["accounts", "add"])).code).toBe(2);
    expect((await run(["serve", "--instances", "none"])).code).toBe(2);
  });

  test("0 for help", async () => {
    const { code, stdout } = await run(["--help"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/serve|migrate|accounts/);
  });

  test("69 where the database cannot be reached", async () => {
    const settings = { DATABASE_URL: "postgres://nobody:canary@127.0.0.1:1/none" };
    const { code, stderr } = await run(["accounts", "list"], { settings });
    expect([code, stderr]).toEqual([69, "the database cannot be reached\n"]);
  });

  test("78 for settings, with a line for each", async () => {
    for (const command of [["serve"], ["accounts", "list"]]) {
      const { code, stderr } = await run(command, { settings: { PORT: "many", ACCESS_TOKEN_TTL: "1d" } });
      expect(code).toBe(78);
      expect(stderr.trim().split("\n")).toEqual([
        expect.stringMatching(/^PORT must be/),
        expect.stringMatching(/^ACCESS_TOKEN_TTL must be/),
      ]);
    }
  });
});

test("migrate brings an empty database up to date, once", async () => {
  const empty = await emptyDatabase();
  const settings = { DATABASE_URL: empty.url };
  expect((await run(["migrate"], { settings })).stdout).toMatch(/^applied 000001/);
  expect((await run(["migrate"], { settings })).stdout).toBe("nothing to do\n");
  await empty.drop();
});
