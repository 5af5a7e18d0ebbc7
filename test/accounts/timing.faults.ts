import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { createPasswordHasher, type PasswordHasher } from "../../src/accounts/password-hasher.ts";
import { startCountingProxy } from "../http/counting-proxy.ts";
import { sendRequest } from "../http/raw-request.ts";
import { alice, passwordWorkerUrl } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { measureInterleaved, median, rankSumP } from "./rank-sum.ts";
import { createRealAuthentication, type RealAuthentication } from "./real-authentication.ts";

/** Enough for hashing to be most of a login, and little enough to measure a thousand. */
const cost = 6;
const oldCost = 4;
/** For the controls, where what is left out has to show on a busy machine too. */
const controlCost = 7;
/** Of those, less than a third of the samples of the others. */
const controlRounds = 40;
/** Two kinds of refusal can be told apart where chance would part them so far less often than this, */
const chanceMax = 0.001;
/** or where one takes a tenth longer than the other: the median of the differences within a round. */
const gapMax = 0.1;
/** A difference that is there shows every time; one that chance, or a busy machine, made up does not. */
const measurementsMax = 3;
const warmUpRounds = 10;

const { password } = alice;
const wrongPassword = "another horse battery staple";
const knownAddress = "198.51.100.7";

let database: TestDatabase;
let current: RealAuthentication;

beforeAll(async () => {
  database = await freshDatabase();
  current = createRealAuthentication({ databaseUrl: database.url, cost });
  const before = createRealAuthentication({ databaseUrl: database.url, cost: oldCost });
  try {
    for (const username of ["enabled", "disabled"]) await current.accounts.add(username, password, []);
    for (const username of ["old", "old-disabled"]) await before.accounts.add(username, password, []);
    for (const username of ["disabled", "old-disabled"]) await before.accounts.disable(username);
  } finally {
    await before.close();
  }
  await database.pool.query(
    `insert into keyfleet.account_addresses (account_id, address_block, last_login_at)
     select id, $1, pg_catalog.clock_timestamp() from keyfleet.accounts where username = 'enabled'`,
    [knownAddress],
  );
});

afterAll(async () => {
  await current.close();
  await database.drop();
});

interface Difference {
  readonly p: number;
  readonly gap: number;
}

function differenceBetween(a: readonly number[], b: readonly number[]): Difference {
  const within = a.map((value, round) => value - (b[round] ?? Number.NaN));
  return { p: rankSumP(a, b), gap: Math.abs(median(within)) / median(b) };
}

type Kinds = Readonly<Record<string, () => Promise<unknown>>>;

/** How each two kinds differ. */
async function measureDifferences(kinds: Kinds, rounds: number): Promise<Record<string, Difference>> {
  const durationsMs = await measureInterleaved(kinds, rounds);
  const names = Object.keys(kinds);
  const pairs = names.flatMap((one, index) => names.slice(index + 1).map((other) => [one, other] as const));
  return Object.fromEntries(
    pairs.map(([one, other]) => [
      `${other} beside ${one}`,
      differenceBetween(durationsMs[other] ?? [], durationsMs[one] ?? []),
    ]),
  );
}

async function expectAlike(
  kinds: Kinds,
  rounds: number,
  canBeTold: (difference: Difference) => boolean,
): Promise<void> {
  await measureInterleaved(kinds, warmUpRounds);
  for (let measurement = 1; ; measurement += 1) {
    const differences = Object.entries(await measureDifferences(kinds, rounds));
    const told = differences.filter(([, difference]) => canBeTold(difference));
    if (told.length > 0 && measurement < measurementsMax) continue;
    expect(told).toEqual([]);
    return;
  }
}

/** By one measurement, and so surely that chance does not do it. */
async function expectTold(kinds: Kinds): Promise<void> {
  await measureInterleaved(kinds, warmUpRounds);
  const seen: (Difference | undefined)[] = [];
  const isTold = () => seen.some((one) => one !== undefined && one.p < chanceMax / 1000 && one.gap > gapMax);
  while (seen.length < measurementsMax && !isTold()) {
    const [difference] = Object.values(await measureDifferences(kinds, controlRounds));
    seen.push(difference);
  }
  expect({ seen, told: isTold() }).toEqual({ seen, told: true });
}

describe("an unknown name, a wrong password and a disabled account", () => {
  let instance: TestInstance;
  beforeAll(async () => {
    instance = await startInstance({
      databaseUrl: database.url,
      settings: { BCRYPT_COST: String(cost), LOGIN_ATTEMPTS: "10000" },
    });
  });
  afterAll(() => instance.stop());

  const post = (username: string, typedPassword: string) => () =>
    sendRequest(instance.url, "/login", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ username, password: typedPassword }),
    });
  const kinds = {
    unknown: post("unknown", password),
    wrongPassword: post("enabled", wrongPassword),
    disabled: post("disabled", password),
  };

  test("are answered alike, down to the headers", async () => {
    const answers = await Promise.all(Object.values(kinds).map((ask) => ask()));
    const [first, ...others] = answers.map(({ status, headers, body }) => {
      const { date: _, "x-request-id": __, ...rest } = headers;
      return { status, rest, body: body.toString() };
    });
    expect(first).toMatchObject({ status: 401, body: expect.stringContaining("invalid_credentials") });
    for (const other of others) expect(other).toEqual(first);
  });

  test("take the same time, over 200 requests of each", async () => {
    await expectAlike(kinds, 200, ({ p, gap }) => p <= chanceMax || gap >= gapMax);
  }, 120_000);
});

describe("a refusal does not tell", () => {
  const attempt =
    ({ authenticate }: RealAuthentication, username: string, typedPassword: string, addressBlock?: string) =>
    () =>
      authenticate(username, typedPassword, addressBlock).catch(() => undefined);

  test("by its time that the account has a hash of a lower cost than the setting's", async () => {
    const kinds = {
      unknown: attempt(current, "unknown", password),
      oldHash: attempt(current, "old", wrongPassword),
      oldHashOfDisabled: attempt(current, "old-disabled", password),
    };
    // Each further call that makes up for the lower cost has a fixed part, a twentieth at this cost and a thousandth
    // at the default one: so it is a gap that is bounded, where it is none of chance.
    await expectAlike(kinds, 120, ({ p, gap }) => p <= chanceMax && gap >= gapMax);
  }, 120_000);

  // Too little to be sure of by measuring: a round trip to a database on this machine.
  test("by the number of questions to the database whether the name or the address is known", async () => {
    const proxy = await startCountingProxy(database.url);
    const counted = createRealAuthentication({ databaseUrl: proxy.url, cost: oldCost });
    try {
      const kinds = {
        unknown: attempt(counted, "unknown", password),
        wrongPassword: attempt(counted, "enabled", wrongPassword),
        disabled: attempt(counted, "disabled", password),
        unknownFromAddress: attempt(counted, "unknown", password, knownAddress),
        wrongPasswordFromKnownAddress: attempt(counted, "enabled", wrongPassword, knownAddress),
      };
      await kinds.unknown();
      const questions: Record<string, number> = {};
      for (const [kind, ask] of Object.entries(kinds)) {
        const before = proxy.messages();
        await ask();
        questions[kind] = proxy.messages() - before;
      }
      expect(questions["unknown"]).toBeGreaterThanOrEqual(3);
      const asMany = Object.keys(kinds).map((kind) => [kind, questions["unknown"]]);
      expect(questions).toEqual(Object.fromEntries(asMany));
    } finally {
      await counted.close();
      await proxy.close();
    }
  });

  test("control: without a hash in place of the one that is not there, its time tells", async () => {
    const careless = createRealAuthentication({
      databaseUrl: database.url,
      cost: controlCost,
      replaceHasher: (hasher) => ({
        ...hasher,
        verify: async (input, hash) => hash !== undefined && hasher.verify(input, hash),
      }),
    });
    try {
      const kinds = {
        unknown: attempt(careless, "unknown", password),
        wrongPassword: attempt(careless, "enabled", wrongPassword),
      };
      await expectTold(kinds);
    } finally {
      await careless.close();
    }
  }, 60_000);

  test("control: where an old hash is compared at its own cost alone, its time tells", async () => {
    const old = createPasswordHasher({
      workerUrl: passwordWorkerUrl,
      cost: oldCost,
      threads: 1,
      isEager: true,
      queueLimit: 8,
    });
    const atItsOwnCost = (hasher: PasswordHasher): PasswordHasher => ({
      ...hasher,
      verify: (input, hash) => (hash === undefined ? hasher : old).verify(input, hash),
    });
    const careless = createRealAuthentication({
      databaseUrl: database.url,
      cost: controlCost,
      replaceHasher: atItsOwnCost,
    });
    try {
      const kinds = {
        unknown: attempt(careless, "unknown", password),
        oldHash: attempt(careless, "old", wrongPassword),
      };
      await expectTold(kinds);
    } finally {
      await careless.close();
      await old.close();
    }
  }, 60_000);
});
