/** Postgres's clock steps by an hour under running instances (I7): noticed, not followed, and adopted once it is sure. */

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import { servedKeys } from "../fleet/stock-verification.ts";
import { addAccount, eventually, login, postLogin } from "../support/accounts.ts";
import { readMetric, startInstance, type TestInstance } from "../support/instance.ts";
import { readSnapshot } from "../support/revocation-stream.ts";
import { findFakeTime, type SteppingServer, startSteppingServer } from "../support/stepping-server.ts";

const library = findFakeTime();
const describeWithFakeTime = library === undefined ? describe.skip : describe;

/** All keys of the start would have expired an hour later. */
const settings = {
  ISSUER: "https://id.example",
  KEY_ROTATION_SCHEDULE: "*/10 * * * *",
  LOGIN_ATTEMPTS: "10000",
};
const hourSeconds = 3600;
const toleranceSeconds = 2;

const nowSeconds = () => (performance.timeOrigin + performance.now()) / 1000;
const kidsOf = async (instance: TestInstance) => [...(await servedKeys(instance)).keys()];

describeWithFakeTime.each([
  ["ahead", hourSeconds],
  ["behind", -hourSeconds],
])("the database's clock steps an hour %s (needs libfaketime on this machine)", (_, stepSeconds) => {
  let server: SteppingServer;
  let instances: TestInstance[];
  let newcomer: TestInstance | undefined;
  let kids: readonly string[];

  beforeAll(async () => {
    server = await startSteppingServer(library ?? "");
    await addAccount(server.url);
    const start = () => startInstance({ databaseUrl: server.url, settings });
    instances = await Promise.all([start(), start()]);
    for (const instance of instances) await login(instance.url);
    await eventually(async () => (await kidsOf(instances[0] as TestInstance)).length === 4);
    kids = await kidsOf(instances[0] as TestInstance);
  });
  afterAll(async () => {
    await Promise.all([...instances, newcomer].map((instance) => instance?.stop("SIGKILL")));
    await server.remove();
  });

  /** An hour off, or not: by how much the times in its tokens differ from ours; undefined where it issues none. */
  async function offsetOfTokens({ url }: TestInstance): Promise<number | undefined> {
    const answer = await postLogin(url);
    if (answer.status === 503) return undefined;
    const { access_token } = (await answer.json()) as { access_token: string };
    return (decodeJwt(access_token).iat ?? Number.NaN) - nowSeconds();
  }

  test("it is noticed and not followed; after a minute of agreement it is adopted, and no key has left", async () => {
    await refuseToFollow();
    await adopt();
  }, 120_000);

  /** Nothing is issued, no key leaves, and as_of stays behind our estimate. */
  async function refuseToFollow(): Promise<void> {
    server.stepTo(stepSeconds);
    for (const instance of instances) {
      await eventually(async () => {
        const offset = await offsetOfTokens(instance);
        expect(Math.abs(offset ?? 0)).toBeLessThan(toleranceSeconds);
        return offset === undefined;
      });
      await eventually(async () => (await readMetric(instance, "keyfleet_clock_steps_total")) === 1);
      const issuing = await fetch(`${instance.url}/readyz/issue`);
      expect([issuing.status, await issuing.json()]).toMatchObject([503, { checks: { clock: false } }]);
      expect((await fetch(`${instance.url}/readyz`)).status).toBe(200);
    }
    // One that starts now knows no other time. Its keys have the others read the table again, by a clock that says
    // that theirs are over.
    newcomer = await startInstance({ databaseUrl: server.url, settings });
    expect(Math.abs(((await offsetOfTokens(newcomer)) ?? 0) - stepSeconds)).toBeLessThan(toleranceSeconds);
    for (let round = 0; round < 20; round += 1) {
      for (const instance of instances) {
        expect(await kidsOf(instance)).toEqual(expect.arrayContaining([...kids]));
        expect((await readSnapshot(instance.url)).snapshot.as_of).toBeLessThan(
          nowSeconds() + toleranceSeconds,
        );
        expect(await offsetOfTokens(instance)).toBeUndefined();
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  async function adopt(): Promise<void> {
    const beganMs = performance.now();
    await eventually(async () => (await offsetOfTokens(instances[0] as TestInstance)) !== undefined, 75_000);
    expect(performance.now() - beganMs).toBeGreaterThan(40_000);
    for (const instance of instances) {
      await eventually(async () => (await offsetOfTokens(instance)) !== undefined, 10_000);
      expect(Math.abs(((await offsetOfTokens(instance)) ?? 0) - stepSeconds)).toBeLessThan(toleranceSeconds);
      expect(await kidsOf(instance)).toEqual(expect.arrayContaining([...kids]));
      expect(instance.output()).toContain("the database's clock is followed again");
    }
  }
});
