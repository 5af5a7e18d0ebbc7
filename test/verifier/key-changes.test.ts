import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from "jose";
import { createVerifier, type VerificationError, type Verifier } from "../../src/verifier/index.ts";
import { addAccount, eventually, postLogin } from "../support/accounts.ts";
import { type Balancer, startBalancer } from "../support/balancer.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { logIn } from "../support/revocations.ts";

const audience = "https://api.example";

let database: TestDatabase;
let balancer: Balancer;
let instances: TestInstance[] = [];
let verifiers: Verifier[];

beforeAll(async () => {
  database = await freshDatabase();
  balancer = await startBalancer();
  await addAccount(database.url);
  await start();
  const revocation = { whenStale: "reject" } as const;
  verifiers = Array.from({ length: 3 }, () => createVerifier({ issuer: balancer.url, audience, revocation }));
  await Promise.all(verifiers.map((verifier) => verifier.ready()));
}, 60_000);
afterAll(async () => {
  await Promise.all(verifiers.map((verifier) => verifier.close()));
  await Promise.all(instances.map((instance) => instance.stop("SIGKILL")));
  await balancer.close();
  await database.drop();
});

async function start(): Promise<TestInstance> {
  const instance = await startInstance({
    databaseUrl: database.url,
    settings: {
      ISSUER: balancer.url,
      AUDIENCES: audience,
      LOGIN_ATTEMPTS: "10000",
      KEY_ROTATION_SCHEDULE: "* * * * * *",
      KEY_PROPAGATION_DELAY: "500ms",
      ACCESS_TOKEN_TTL: "5s",
      VERIFY_GRACE: "0s",
    },
  });
  await eventually(async () => (await postLogin(instance.url)).ok);
  instances.push(instance);
  balancer.setTargets(instances.map(({ url }) => url));
  return instance;
}

const kidOf = (token: string) => String(decodeProtectedHeader(token).kid);

/** Logs in at each instance in turn until told to stop; every token is verified by every verifier at once. */
function startVerifying() {
  const kids = new Set<string>();
  const rejections: string[] = [];
  let verifications = 0;
  let stopped = false;
  const running = (async () => {
    for (let turn = 0; !stopped; turn += 1) {
      await pause(25);
      const at = instances[turn % instances.length];
      const answer = await postLogin(at?.url ?? "").catch(() => undefined);
      // An instance that is stopping takes no more logins: its callers go to another.
      if (answer?.status !== 200) continue;
      const { access_token: token } = (await answer.json()) as { access_token: string };
      kids.add(kidOf(token));
      await Promise.all(
        verifiers.map((verifier) =>
          verifier.verify(token).then(
            () => {
              verifications += 1;
            },
            (error: VerificationError) => void rejections.push(error.code),
          ),
        ),
      );
    }
  })();
  return {
    kids,
    rejections,
    async stop() {
      stopped = true;
      await running;
      return verifications;
    },
  };
}

test("no token is rejected through rotations, a new instance, and the replacement of all", async () => {
  const verifying = startVerifying();
  await eventually(() => verifying.kids.size >= 4);
  const before = [...instances];
  await Promise.all([start(), start()]);
  for (const old of before) {
    instances = instances.filter((instance) => instance !== old);
    balancer.setTargets(instances.map(({ url }) => url));
    expect(await old.stop("SIGTERM")).toBe(0);
  }
  const kidsBefore = verifying.kids.size;
  await eventually(() => verifying.kids.size >= kidsBefore + 4);
  const verifications = await verifying.stop();
  console.log(
    `${verifications} verifications of tokens of ${verifying.kids.size} keys: ${verifying.rejections.length} rejected`,
  );
  expect(verifying.rejections).toEqual([]);
  expect(verifications).toBeGreaterThan(100);
}, 60_000);

test("a revoked key is refused within a second by this verifier; a stock consumer keeps it until its cache ends", async () => {
  const [owner] = instances as [TestInstance];
  const { access_token: token } = await logIn(owner.url);
  const jwks = createRemoteJWKSet(new URL(`${balancer.url}/.well-known/jwks.json`));
  await jwtVerify(token, jwks);
  await Promise.all(verifiers.map((verifier) => verifier.verify(token)));
  const { rows } = await database.pool.query<{ instance_id: string }>(
    "select instance_id from keyfleet.signing_keys where kid = $1",
    [kidOf(token)],
  );
  await database.pool.query("select keyfleet.revoke_instance_keys($1, false, 'test', null)", [
    rows[0]?.instance_id,
  ]);
  const revokedAtMs = performance.now();
  const code = (verifier: Verifier) =>
    verifier.verify(token).then(
      () => "accepted",
      (error: VerificationError) => error.code,
    );
  await eventually(async () =>
    (await Promise.all(verifiers.map(code))).every((each) => each === "revoked_key"),
  );
  expect(performance.now() - revokedAtMs).toBeLessThan(1000);
  // What revocation is for: jose goes on by what it has cached, for ten minutes by default.
  await jwtVerify(token, jwks);
}, 30_000);
