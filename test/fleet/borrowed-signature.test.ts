/** Instances without a mature key have others sign for them, and hand out nothing but what they themselves put together. */

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { decodeProtectedHeader } from "jose";
import { addClient, basic } from "../http/endpoint-fixture.ts";
import { addAccount, eventually, login, postLogin } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, type Settings, startInstance, type TestInstance } from "../support/instance.ts";
import { servedKeys, verifyThrough } from "./stock-verification.ts";

const issuer = "https://id.example";
const borrowed = 'keyfleet_access_tokens_issued_total{key="borrowed"}';
const immature = 'keyfleet_access_tokens_issued_total{key="immature"}';

let database: TestDatabase;
let started: TestInstance[];

async function setUp(): Promise<void> {
  database = await freshDatabase();
  await addAccount(database.url);
  started = [];
}
async function tearDown(): Promise<void> {
  await Promise.all(started.map((instance) => instance.stop("SIGKILL")));
  await database.drop();
}

/** With room for only so many signers, whoever starts later borrows for good. */
async function start(maxSigners: number, settings: Settings = {}): Promise<TestInstance> {
  const instance = await startInstance({
    databaseUrl: database.url,
    settings: { ISSUER: issuer, MAX_SIGNERS: String(maxSigners), LOGIN_ATTEMPTS: "10000", ...settings },
  });
  started.push(instance);
  return instance;
}

async function ownerOf(token: string): Promise<string | undefined> {
  const { kid } = decodeProtectedHeader(token);
  const { rows } = await database.pool.query<{ id: string }>(
    "select instance_id as id from keyfleet.signing_keys where kid = $1",
    [kid],
  );
  return rows[0]?.id;
}

async function postToken(
  { url }: TestInstance,
  parameters: Record<string, string>,
  headers: Record<string, string> = {},
): Promise<Record<string, string>> {
  const body = new URLSearchParams(parameters);
  const response = await fetch(`${url}/token`, { method: "POST", body, headers });
  return { status: String(response.status), ...((await response.json()) as Record<string, string>) };
}

describe("a borrower", () => {
  let signers: readonly [TestInstance, TestInstance];
  let borrower: TestInstance;
  const signal = (name: NodeJS.Signals) => {
    for (const signer of signers) signer.process.kill(name);
  };
  /** Who did not lend is left alone for a while. */
  const untilLent = () => eventually(async () => (await postLogin(borrower.url)).status === 200, 10_000, 250);

  beforeAll(async () => {
    await setUp();
    signers = await Promise.all([start(2), start(2)]);
    borrower = await start(2);
  }, 20_000);
  afterEach(async () => {
    signal("SIGCONT");
    await database.pool.query("drop trigger if exists rewrite on keyfleet.issued_tokens");
    await untilLent();
  }, 15_000);
  afterAll(tearDown);

  test("issues what a mature signer signed, for every grant, and any consumer verifies it", async () => {
    const loans = async () => {
      const lent = signers.map((signer) =>
        readMetric(signer, 'keyfleet_signature_loans_total{outcome="lent"}'),
      );
      const [first = 0, second = 0] = await Promise.all(lent);
      return { borrowed: await readMetric(borrower, borrowed), lent: first + second };
    };
    const before = await loans();
    expect((await servedKeys(borrower)).size).toBe(4);
    const first = await login(borrower.url);
    const refreshed = await postToken(borrower, {
      grant_type: "refresh_token",
      refresh_token: first.refresh_token,
    });
    const secret = await addClient(
      database,
      { id: "jobs", audiences: [issuer], scopes: ["orders:read"] },
      issuer,
    );
    const ofClient = await postToken(borrower, { grant_type: "client_credentials" }, basic("jobs", secret));
    for (const token of [first.access_token, refreshed["access_token"], ofClient["access_token"]]) {
      expect(signers.map(({ instanceId }) => instanceId)).toContain(await ownerOf(token ?? ""));
      for (const instance of [...signers, borrower]) await verifyThrough(instance, token ?? "");
      const introspected = await fetch(`${signers[0].url}/introspect`, {
        method: "POST",
        headers: basic("jobs", secret),
        body: new URLSearchParams({ token: token ?? "" }),
      });
      expect(await introspected.json()).toMatchObject({ active: true });
    }
    expect(await loans()).toEqual({ borrowed: before.borrowed + 3, lent: before.lent + 3 });
  });

  test("spreads its loans, and asks another when one does not answer", async () => {
    const owners = new Set<string | undefined>();
    await eventually(async () => {
      owners.add(await ownerOf((await login(borrower.url)).access_token));
      return owners.size === 2;
    });
    const unanswered = () => readMetric(borrower, 'keyfleet_signature_loans_total{outcome="unanswered"}');
    const before = await unanswered();
    signers[0].process.kill("SIGSTOP");
    for (let count = 0; count < 12; count += 1) {
      expect(await ownerOf((await login(borrower.url)).access_token)).toBe(signers[1].instanceId);
    }
    // Once, or twice where five seconds have passed: who did not answer is left alone for a while.
    expect((await unanswered()) - before).toBeGreaterThanOrEqual(1);
    expect((await unanswered()) - before).toBeLessThanOrEqual(2);
  });

  test("answers 503 within two seconds where nobody lends, and leaves no session behind", async () => {
    // One is left alone by then, as it did not answer before: the other is waited for for a second.
    const unanswered = () => readMetric(borrower, 'keyfleet_signature_loans_total{outcome="unanswered"}');
    const unansweredBefore = await unanswered();
    signers[0].process.kill("SIGSTOP");
    let refresh_token = "";
    await eventually(async () => {
      ({ refresh_token } = await login(borrower.url));
      return (await unanswered()) > unansweredBefore;
    });
    const sessions = async () => (await database.pool.query("select from keyfleet.sessions")).rowCount;
    const before = await sessions();
    signal("SIGSTOP");
    const beganMs = performance.now();
    const refused = await postLogin(borrower.url);
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "1"]);
    expect(performance.now() - beganMs).toBeLessThan(2000);
    expect(await sessions()).toBe(before);
    // The presented token was rotated away, and the client never learned of it.
    const grant = { grant_type: "refresh_token", refresh_token };
    expect((await postToken(borrower, grant))["status"]).toBe("503");
    signal("SIGCONT");
    await untilLent();
    expect((await postToken(borrower, grant))["status"]).toBe("200");
  }, 30_000);

  test("gets a signature over what it authenticated, or none: a trigger rewrites the record during the loan", async () => {
    const falseAnswers = 'keyfleet_signature_loans_total{outcome="false_answer"}';
    const before = await readMetric(borrower, falseAnswers);
    await database.pool.query(`
      create or replace function public.rewrite() returns trigger language plpgsql as $$
        begin new.scope := 'orders:read'; return new; end $$;
      create trigger rewrite before insert on keyfleet.issued_tokens
        for each row execute function public.rewrite()`);
    expect((await postLogin(borrower.url)).status).toBe(503);
    expect(await readMetric(borrower, falseAnswers)).toBeGreaterThan(before);
    await database.pool.query("drop trigger rewrite on keyfleet.issued_tokens");
    await untilLent();
  });

  test("is 503 at /readyz/issue while those who could lend live and cannot, as the issuing statement finds", async () => {
    const canIssue = async () => (await fetch(`${borrower.url}/readyz/issue`)).status === 200;
    await eventually(canIssue);
    signal("SIGSTOP");
    // As that of a signer of the release before would be, or of one that notifications do not reach.
    await database.pool.query("update keyfleet.instances set listening = false where id = any ($1)", [
      signers.map(({ instanceId }) => instanceId),
    ]);
    await eventually(async () => !(await canIssue()));
    expect((await postLogin(borrower.url)).status).toBe(503);
    signal("SIGCONT");
    await eventually(canIssue);
    expect((await postLogin(borrower.url)).status).toBe(200);
  });
});

describe("without a mature signer", () => {
  beforeEach(setUp);
  afterEach(tearDown);

  test("an instance signs with its oldest key where the statement finds none alive, and says so", async () => {
    const settings = { KEY_PROPAGATION_DELAY: "1h" };
    const instances = await Promise.all([start(16, settings), start(16, settings)]);
    for (const instance of instances) {
      expect(await ownerOf((await login(instance.url)).access_token)).toBe(instance.instanceId);
      expect(await readMetric(instance, immature)).toBe(1);
      expect(instance.output()).toContain("no mature key is alive");
    }
  });

  test("a new instance never signs with a key that caches do not know while a mature signer lives", async () => {
    const settings = { KEY_PROPAGATION_DELAY: "2s" };
    const first = await start(16, settings);
    const mature = 'keyfleet_access_tokens_issued_total{key="mature"}';
    const signsMature = async () => (await login(first.url)) && (await readMetric(first, mature)) > 0;
    await eventually(signsMature, 10_000, 100);
    const second = await start(16, settings);
    const beganMs = performance.now();
    const owners: (string | undefined)[] = [];
    while (owners.at(-1) !== second.instanceId) {
      owners.push(await ownerOf((await login(second.url)).access_token));
      expect(performance.now() - beganMs).toBeLessThan(10_000);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(owners[0]).toBe(first.instanceId);
    expect(await readMetric(second, immature)).toBe(0);
    const { rows } = await database.pool.query<{ ms: number }>(
      `select (extract(epoch from min(t.issued_at) - min(k.published_at)) * 1000)::float8 as ms
       from keyfleet.issued_tokens t join keyfleet.signing_keys k using (kid) where k.instance_id = $1`,
      [second.instanceId],
    );
    expect(rows[0]?.ms).toBeGreaterThanOrEqual(2000);
  });
});
