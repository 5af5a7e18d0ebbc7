import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import bcrypt from "bcrypt";
import { type Account, isAccountSealed } from "../../src/accounts/account.ts";
import { decryptHash } from "../../src/accounts/password.ts";
import { createAccountStore } from "../../src/postgres/accounts.ts";
import { createPool, endPool, type Pool, servingTimeouts } from "../../src/postgres/pool.ts";
import { alice, testSecrets } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { createRealAuthentication, type RealAuthentication } from "./real-authentication.ts";

let database: TestDatabase;
let pool: Pool;
const opened: RealAuthentication[] = [];

beforeAll(async () => {
  database = await freshDatabase();
  pool = createPool({ url: database.url, max: 2, timeouts: servingTimeouts, onError: () => undefined });
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((authentication) => authentication.close()));
});
afterAll(async () => {
  await endPool(pool);
  await database.drop();
});

function atCost(cost: number): RealAuthentication {
  const authentication = createRealAuthentication({ databaseUrl: database.url, cost });
  opened.push(authentication);
  return authentication;
}

async function stored(username: string): Promise<Account> {
  const { account } = await createAccountStore(pool).find(username, "");
  if (account === undefined) throw new Error(`no account ${username}`);
  return account;
}

function hashOf(account: Account) {
  const hash = decryptHash(testSecrets, account.id, account.password);
  return { scheme: hash?.scheme, cost: Number(hash?.hash.slice(4, 6)) };
}

const refusedAs = (code: string) => expect.objectContaining({ name: "Refusal", code });
const { password } = alice;
const wrongPassword = "another horse battery staple";

describe("when the cost has risen since a password was set", () => {
  test("the first login replaces the hash, and the row stays sealed", async () => {
    await atCost(4).accounts.add("upgraded", password, ["orders:read"]);
    const before = await stored("upgraded");
    const risen = atCost(5);
    await risen.authenticate("upgraded", password);
    const after = await stored("upgraded");
    expect([hashOf(before), hashOf(after)]).toEqual([
      { scheme: "keyfleet", cost: 4 },
      { scheme: "keyfleet", cost: 5 },
    ]);
    expect(isAccountSealed(testSecrets, after)).toBe(true);
    expect({ ...after, password: before.password, seal: before.seal }).toEqual(before);
    await risen.authenticate("upgraded", password);
    expect(await stored("upgraded")).toEqual(after);
    expect(risen.reports).toEqual([]);
  });

  test("a wrong password replaces nothing", async () => {
    await atCost(4).accounts.add("attacked", password, []);
    const before = await stored("attacked");
    await expect(atCost(5).authenticate("attacked", wrongPassword)).rejects.toEqual(
      refusedAs("invalid_credentials"),
    );
    expect(await stored("attacked")).toEqual(before);
  });

  test("a hash of a higher cost is left as it is", async () => {
    await atCost(6).accounts.add("careful", password, []);
    const before = await stored("careful");
    await atCost(4).authenticate("careful", password);
    expect(await stored("careful")).toEqual(before);
  });

  test("many logins at once all succeed, and leave a row that logs in", async () => {
    await atCost(4).accounts.add("busy", password, []);
    const risen = atCost(5);
    await Promise.all(Array.from({ length: 8 }, () => risen.authenticate("busy", password)));
    expect(hashOf(await stored("busy"))).toEqual({ scheme: "keyfleet", cost: 5 });
    await risen.authenticate("busy", password);
    expect(risen.reports).toEqual([]);
  });
});

describe("an imported bcrypt hash", () => {
  test.each(["$2b$", "$2a$", "$2y$"])(
    "of the kind %s logs in, and is replaced by one of ours",
    async (kind) => {
      const username = `imported ${kind}`;
      const bcryptHash = bcrypt.hashSync(password, 4).replace("$2b$", kind);
      const { accounts, authenticate } = atCost(4);
      await accounts.import({ username, scopes: [], bcryptHash });
      expect(hashOf(await stored(username))).toEqual({ scheme: "bcrypt", cost: 4 });
      await expect(authenticate(username, wrongPassword)).rejects.toEqual(refusedAs("invalid_credentials"));
      await authenticate(username, password);
      const after = await stored(username);
      expect(hashOf(after)).toEqual({ scheme: "keyfleet", cost: 4 });
      expect(isAccountSealed(testSecrets, after)).toBe(true);
      await authenticate(username, password);
      await expect(authenticate(username, wrongPassword)).rejects.toEqual(refusedAs("invalid_credentials"));
    },
  );

  test("is cut at 72 bytes by bcrypt until it is replaced by one that is not", async () => {
    const long = "x".repeat(72);
    const { accounts, authenticate } = atCost(4);
    await accounts.import({ username: "cut", scopes: [], bcryptHash: bcrypt.hashSync(`${long}1`, 4) });
    await authenticate("cut", `${long}2`);
    await expect(authenticate("cut", `${long}1`)).rejects.toEqual(refusedAs("invalid_credentials"));
  });
});

describe("passwords are different", () => {
  test.each([
    ["that differ only after byte 72", `${"x".repeat(72)} and a tail`, `${"x".repeat(72)} and another`],
    ["that differ only in their last of 256 characters", `${"ab".repeat(127)}cd`, `${"ab".repeat(127)}ce`],
    ["that differ only after a NUL", "correct horse\0battery staple", "correct horse\0another staple"],
    ["of which one ends with a NUL", "correct horse battery", "correct horse battery\0"],
    ["that differ in case", "Correct horse battery", "correct horse battery"],
    ["that differ in a space at the end", "correct horse battery", "correct horse battery "],
    ["that are alike only by NFKC", "correct horse \ufb01ne battery", "correct horse fine battery"],
  ])("%s", async (description, right, wrong) => {
    const username = description.slice(0, 100);
    const { accounts, authenticate } = atCost(4);
    await accounts.add(username, right, []);
    await authenticate(username, right);
    await expect(authenticate(username, wrong)).rejects.toEqual(refusedAs("invalid_credentials"));
  });
});

test("a password may be typed composed or decomposed (NFC, NFD)", async () => {
  const typed = "Gr\u00fc\u00dfe aus K\u00f6ln am Rhein \uac01";
  const [composed, decomposed] = [typed.normalize("NFC"), typed.normalize("NFD")];
  expect(composed).not.toBe(decomposed);
  const { accounts, authenticate } = atCost(4);
  await accounts.add("composed", composed, []);
  await authenticate("composed", decomposed);
  await accounts.add("decomposed", decomposed, []);
  await authenticate("decomposed", composed);
});

describe("an account is refused", () => {
  test("as unknown, and reported, where its row was written by somebody else", async () => {
    const { accounts, authenticate, reports } = atCost(4);
    await accounts.add("forged", password, []);
    await pool.query("update keyfleet.accounts set scopes = '{keyfleet:admin}' where username = 'forged'");
    await expect(authenticate("forged", password)).rejects.toEqual(refusedAs("invalid_credentials"));
    expect(reports).toEqual(["forged account"]);
  });

  test("where its hash is another account's", async () => {
    const { accounts, authenticate } = atCost(4);
    await accounts.add("hash owner", password, []);
    await accounts.add("hash thief", wrongPassword, []);
    await pool.query(
      `update keyfleet.accounts thief set password = owner.password from keyfleet.accounts owner
       where thief.username = 'hash thief' and owner.username = 'hash owner'`,
    );
    await expect(authenticate("hash thief", password)).rejects.toEqual(refusedAs("invalid_credentials"));
  });

  test("where it must change its password, only once that was right, and its hash is left for the change", async () => {
    const { accounts, authenticate } = atCost(4);
    await accounts.add("newcomer", password, []);
    await accounts.requirePasswordChange("newcomer");
    await expect(authenticate("newcomer", wrongPassword)).rejects.toEqual(refusedAs("invalid_credentials"));
    await expect(authenticate("newcomer", password)).rejects.toEqual(refusedAs("password_change_required"));
  });
});
