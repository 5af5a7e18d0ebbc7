import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type RawAnswer, sendRequest } from "../http/raw-request.ts";
import { expectRefusal } from "../http/refusal.ts";
import { addAccount, alice } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";

/** For one name from one address; ten times as many for a name, and for an address. */
const attempts = 3;
const windowSeconds = 900;
const settings = {
  LOGIN_ATTEMPTS: String(attempts),
  LOGIN_WINDOW: `${windowSeconds}s`,
  TRUST_PROXY: "loopback",
};

let database: TestDatabase;
let instance: TestInstance;
let other: TestInstance;

beforeAll(async () => {
  database = await freshDatabase();
  const start = () => startInstance({ databaseUrl: database.url, settings });
  [instance, other] = await Promise.all([start(), start()]);
});

afterAll(async () => {
  await Promise.all([instance.stop(), other.stop()]);
  await database.drop();
});

interface Attempt {
  readonly username: string;
  readonly password?: string;
  /** Where it seems to come from. */
  readonly address?: string;
  readonly at?: TestInstance;
}

let lastAddress = 0;

/** An address that no other test uses. */
function newAddress(): string {
  lastAddress += 1;
  return `198.18.${Math.floor(lastAddress / 256)}.${lastAddress % 256}`;
}

function attempt({ username, password = "a wrong guess", address = "192.0.2.1", at = instance }: Attempt) {
  return sendRequest(at.url, "/login", {
    method: "POST",
    headers: { "content-type": "application/json", "x-forwarded-for": address },
    body: JSON.stringify({ username, password }),
  });
}

/** Statuses of attempts made one after the other. */
async function statuses(count: number, each: Attempt | ((index: number) => Attempt)): Promise<number[]> {
  const seen: number[] = [];
  for (let index = 0; index < count; index += 1) {
    seen.push((await attempt(typeof each === "function" ? each(index) : each)).status);
  }
  return seen;
}

async function newAccount(username: string) {
  await addAccount(database.url, { ...alice, username });
  return { username, password: alice.password, address: newAddress() };
}

function expectTooMany(answer: RawAnswer): void {
  expectRefusal(answer, 429, "too_many_attempts");
  const seconds = Number(answer.headers["retry-after"]);
  expect(Number.isInteger(seconds)).toBe(true);
  expect(seconds).toBeGreaterThan(windowSeconds - 120);
  expect(seconds).toBeLessThanOrEqual(windowSeconds);
}

const failures = (count: number) => Array<number>(count).fill(401);

describe("after LOGIN_ATTEMPTS failures for one name from one address", () => {
  test("the next is refused, even with the right password, and elsewhere it is not", async () => {
    const right = await newAccount("guessed");
    const wrong = { username: right.username, address: right.address };
    expect(await statuses(attempts, wrong)).toEqual(failures(attempts));
    expectTooMany(await attempt(wrong));
    expectTooMany(await attempt(right));
    expect((await attempt({ ...right, address: newAddress() })).status).toBe(200);
    expect((await attempt({ username: "somebody else", address: right.address })).status).toBe(401);
  });

  test("the name may be spelled as one likes", async () => {
    const address = newAddress();
    const spellings = ["Spelled", "SPELLED", "\uff53pelled", "spelled"];
    const seen = await statuses(4, (index) => ({ username: spellings[index] ?? "", address }));
    expect(seen).toEqual([...failures(attempts), 429]);
  });

  test("an account that does not exist is refused alike", async () => {
    const unknown = { username: "nobody at all", address: newAddress() };
    expect(await statuses(attempts, unknown)).toEqual(failures(attempts));
    expectTooMany(await attempt(unknown));
  });

  test("every other instance refuses it too, and one that starts later", async () => {
    const wrong = { username: "asked everywhere", address: newAddress() };
    expect(await statuses(attempts, (index) => ({ ...wrong, at: index === 0 ? other : instance }))).toEqual(
      failures(attempts),
    );
    expectTooMany(await attempt({ ...wrong, at: other }));
    const restarted = await startInstance({ databaseUrl: database.url, settings });
    try {
      expectTooMany(await attempt({ ...wrong, at: restarted }));
    } finally {
      await restarted.stop();
    }
  });

  test("it may be tried again when LOGIN_WINDOW has passed", async () => {
    const right = await newAccount("patient");
    expect(await statuses(attempts + 1, { username: right.username, address: right.address })).toContain(429);
    // The table holds times of its own, in milliseconds: the window is moved into the past instead of waited for.
    await database.pool.query("update keyfleet.login_attempts set expire = expire - $1::bigint", [
      windowSeconds * 1000,
    ]);
    expect((await attempt(right)).status).toBe(200);
  });
});

describe("guesses made at once", () => {
  test.each(["a name that exists", "a name that does not"])("cannot slip by: %s", async (username) => {
    if (username === "a name that exists") await newAccount(username);
    const address = newAddress();
    const seen = await Promise.all(
      Array.from({ length: 50 }, (_, index) =>
        attempt({ username, address, at: index % 2 === 0 ? instance : other }),
      ),
    );
    const judged = seen.filter(({ status }) => status === 401);
    expect(judged).toHaveLength(attempts);
    for (const refused of seen.filter(({ status }) => status !== 401)) expectTooMany(refused);
  });

  test("cannot slip by among right passwords", async () => {
    const right = await newAccount("mixed");
    const seen = await Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        attempt(index % 2 === 0 ? right : { ...right, password: "wrong" }),
      ),
    );
    expect(seen.filter(({ status }) => status === 401).length).toBeLessThanOrEqual(attempts);
  });
});

describe("a right password", () => {
  test("costs no attempt, however often", async () => {
    const right = await newAccount("frequent");
    expect(await statuses(4 * attempts, right)).toEqual(Array(4 * attempts).fill(200));
    expect(await statuses(attempts + 1, { ...right, password: "wrong" })).toEqual([
      ...failures(attempts),
      429,
    ]);
  });

  test("costs no attempt where many come at once", async () => {
    const right = await newAccount("parallel");
    const seen = await Promise.all(Array.from({ length: 30 }, () => attempt(right)));
    expect(seen.filter(({ status }) => status !== 200 && status !== 429)).toEqual([]);
    expect((await attempt(right)).status).toBe(200);
  });

  test("does not take back the failures before it", async () => {
    const right = await newAccount("forgetful");
    const wrong = { ...right, password: "wrong" };
    const typed = [wrong, wrong, right, wrong, wrong];
    expect(await statuses(typed.length, (index) => typed[index] ?? right)).toEqual([401, 401, 200, 401, 429]);
  });
});

describe("a name that is guessed from many addresses", () => {
  /** Ten times LOGIN_ATTEMPTS, none of them too many for its address. */
  async function useUp(username: string): Promise<void> {
    for (let address = 0; address < 10; address += 1) {
      expect(await statuses(attempts, { username, address: newAddress() })).toEqual(failures(attempts));
    }
  }

  test("is refused from new ones, but not from where its owner has logged in before", async () => {
    const owner = await newAccount("victim");
    expect((await attempt(owner)).status).toBe(200);
    await useUp(owner.username);
    expectTooMany(await attempt({ ...owner, address: newAddress() }));
    expect((await attempt(owner)).status).toBe(200);
    expect((await attempt({ ...owner, at: other })).status).toBe(200);
  });

  test("is not free to be guessed from where its owner has logged in", async () => {
    const owner = await newAccount("neighbour");
    expect((await attempt(owner)).status).toBe(200);
    expect(await statuses(attempts + 1, { ...owner, password: "wrong" })).toEqual([
      ...failures(attempts),
      429,
    ]);
  });

  test("is refused also from where its owner has not logged in for 30 days", async () => {
    const owner = await newAccount("traveller");
    expect((await attempt(owner)).status).toBe(200);
    await database.pool.query(
      `update keyfleet.account_addresses set last_login_at = last_login_at - interval '31 days'
       where address_block = $1`,
      [owner.address],
    );
    await useUp(owner.username);
    expectTooMany(await attempt(owner));
  });
});

describe("an address that guesses many names", () => {
  test("is refused after ten times LOGIN_ATTEMPTS, whatever the name; another is not", async () => {
    const address = newAddress();
    const guess = (index: number) => ({ username: `name ${index}`, address });
    expect(await statuses(10 * attempts, guess)).toEqual(failures(10 * attempts));
    expectTooMany(await attempt({ username: "one more", address }));
    expect((await attempt({ username: "one more", address: newAddress() })).status).toBe(401);
  });

  test("counts as its /64, where it is an IPv6 address", async () => {
    const username = "guessed by IPv6";
    const block = ["2001:db8:a:b::1", "2001:db8:a:b::2", "2001:0DB8:000a:b:ffff:ffff:ffff:ffff"];
    expect(await statuses(3, (index) => ({ username, address: block[index] ?? "" }))).toEqual(
      failures(attempts),
    );
    expectTooMany(await attempt({ username, address: "2001:db8:a:b:1:2:3:4" }));
    expect((await attempt({ username, address: "2001:db8:a:c::1" })).status).toBe(401);
  });

  test("counts as itself, where it is an IPv4 address in IPv6", async () => {
    const username = "guessed by mapped IPv4";
    const [address, neighbour] = [newAddress(), newAddress()];
    expect(await statuses(attempts, { username, address: `::ffff:${address}` })).toEqual(failures(attempts));
    expectTooMany(await attempt({ username, address }));
    expect((await attempt({ username, address: `::ffff:${neighbour}` })).status).toBe(401);
  });
});

test("the table holds no username, which may be a password in the wrong field, nor its plain digest", async () => {
  const username = "hunter2 typed in the wrong field";
  const address = newAddress();
  await attempt({ username, address });
  const { rows } = await database.pool.query("select key from keyfleet.login_attempts");
  const keys = rows.map(({ key }) => key as string).join("\n");
  expect(keys).toMatch(/^name-address:/m);
  for (const text of [username, JSON.stringify([username]), JSON.stringify([username, address])]) {
    expect(keys).not.toContain(text);
    for (const encoding of ["hex", "base64", "base64url"] as const) {
      expect(keys).not.toContain(Buffer.from(text).toString(encoding));
      for (const hash of ["md5", "sha1", "sha256"]) {
        expect(keys).not.toContain(createHash(hash).update(text).digest(encoding));
      }
    }
  }
});
