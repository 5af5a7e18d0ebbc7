/** Instances without a mature key have others sign for them, and hand out nothing but what they themselves put together. */

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
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

beforeEach(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  started = [];
});
afterEach(async () => {
  for (const instance of started) instance.process.kill("SIGCONT");
  await Promise.all(started.map((instance) => instance.stop("SIGKILL")));
  await database.drop();
});

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
  test("issues what a mature signer signed, for every grant, and any consumer verifies it", async () => {
    const signer = await start(1);
    const borrower = await start(1);
    expect((await servedKeys(borrower)).size).toBe(2);
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
      expect(await ownerOf(token ?? "")).toBe(signer.instanceId);
      for (const instance of [signer, borrower]) await verifyThrough(instance, token ?? "");
      const introspected = await fetch(`${signer.url}/introspect`, {
        method: "POST",
        headers: basic("jobs", secret),
        body: new URLSearchParams({ token: token ?? "" }),
      });
      expect(await introspected.json()).toMatchObject({ active: true });
    }
    expect(await readMetric(borrower, borrowed)).toBe(3);
    expect(await readMetric(signer, 'keyfleet_signature_loans_total{outcome="lent"}')).toBe(3);
  });

  test("spreads its loans, and asks another when one does not answer", async () => {
    const signers = [await start(2), await start(2)] as const;
    const borrower = await start(2);
    const owners = new Set<string | undefined>();
    await eventually(async () => {
      owners.add(await ownerOf((await login(borrower.url)).access_token));
      return owners.size === 2;
    });
    signers[0].process.kill("SIGSTOP");
    for (let count = 0; count < 12; count += 1) {
      expect(await ownerOf((await login(borrower.url)).access_token)).toBe(signers[1].instanceId);
    }
    const unanswered = 'keyfleet_signature_loans_total{outcome="unanswered"}';
    // Once, or twice where five seconds have passed: who did not answer is left alone for a while.
    expect(await readMetric(borrower, unanswered)).toBeGreaterThanOrEqual(1);
    expect(await readMetric(borrower, unanswered)).toBeLessThanOrEqual(2);
  });

  test("answers 503 within two seconds where nobody lends, and leaves no session behind", async () => {
    const signer = await start(1);
    const borrower = await start(1);
    const { refresh_token } = await login(borrower.url);
    signer.process.kill("SIGSTOP");
    const beganMs = performance.now();
    const refused = await postLogin(borrower.url);
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "1"]);
    expect(performance.now() - beganMs).toBeLessThan(2000);
    const { rows } = await database.pool.query("select from keyfleet.sessions");
    expect(rows).toHaveLength(1);
    // The presented token was rotated away, and the client never learned of it.
    const grant = { grant_type: "refresh_token", refresh_token };
    expect((await postToken(borrower, grant))["status"]).toBe("503");
    signer.process.kill("SIGCONT");
    await eventually(async () => (await postLogin(borrower.url)).status === 200);
    expect((await postToken(borrower, grant))["status"]).toBe("200");
  });

  test("gets a signature over what it authenticated, or none: a trigger rewrites the record during the loan", async () => {
    await start(1);
    const borrower = await start(1);
    await database.pool.query(`
      create function public.rewrite() returns trigger language plpgsql as $$
        begin new.scope := 'orders:read'; return new; end $$;
      create trigger rewrite before insert on keyfleet.issued_tokens
        for each row execute function public.rewrite()`);
    expect((await postLogin(borrower.url)).status).toBe(503);
    const falseAnswers = 'keyfleet_signature_loans_total{outcome="false_answer"}';
    expect(await readMetric(borrower, falseAnswers)).toBeGreaterThan(0);
    await database.pool.query("drop trigger rewrite on keyfleet.issued_tokens");
    await eventually(async () => (await postLogin(borrower.url)).status === 200);
  });
});

describe("without a mature signer", () => {
  test("an instance signs with its oldest key where the statement finds none alive, and says so", async () => {
    const settings = { KEY_PROPAGATION_DELAY: "1h" };
    const instances = [await start(16, settings), await start(16, settings)];
    for (const instance of instances) {
      expect(await ownerOf((await login(instance.url)).access_token)).toBe(instance.instanceId);
      expect(await readMetric(instance, immature)).toBe(1);
      expect(instance.output()).toContain("no mature key is alive");
    }
  });

  test("a new instance never signs with a key that caches do not know while a mature signer lives", async () => {
    const settings = { KEY_PROPAGATION_DELAY: "2s" };
    const [first] = [await start(16, settings)];
    await eventually(async () => {
      await login(first.url);
      return (await readMetric(first, 'keyfleet_access_tokens_issued_total{key="mature"}')) > 0;
    });
    const second = await start(16, settings);
    const beganMs = performance.now();
    const owners: (string | undefined)[] = [];
    while (owners.at(-1) !== second.instanceId) {
      owners.push(await ownerOf((await login(second.url)).access_token));
      expect(performance.now() - beganMs).toBeLessThan(10_000);
    }
    expect(owners[0]).toBe(first.instanceId);
    expect(await readMetric(second, immature)).toBe(0);
    expect(performance.now() - beganMs).toBeGreaterThan(1000);
  });
});

test("/readyz/issue of a borrower is 503 while those who could lend live and cannot, as the issuing statement finds", async () => {
  const canIssue = async ({ url }: TestInstance) => (await fetch(`${url}/readyz/issue`)).status === 200;
  const signer = await start(1);
  const borrower = await start(1);
  expect(await canIssue(borrower)).toBe(true);
  signer.process.kill("SIGSTOP");
  // As that of a signer of the release before would be, or of one that notifications do not reach.
  await database.pool.query("update keyfleet.instances set listening = false where id = $1", [
    signer.instanceId,
  ]);
  await eventually(async () => !(await canIssue(borrower)));
  expect((await postLogin(borrower.url)).status).toBe(503);
  signer.process.kill("SIGCONT");
  await eventually(() => canIssue(borrower));
  expect((await postLogin(borrower.url)).status).toBe(200);
});
