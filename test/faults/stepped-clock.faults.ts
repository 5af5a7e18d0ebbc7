/**
 * Postgres's clock steps by an hour under running instances (I7): noticed, not followed, and adopted once it is sure; and
 * nobody who checks a token of before notices.
 */

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { decodeJwt } from "jose";
import { servedKeys } from "../fleet/stock-verification.ts";
import { addAccount, eventually, login, postLogin } from "../support/accounts.ts";
import { type Balancer, startBalancer } from "../support/balancer.ts";
import { readMetric, startInstance, type TestInstance } from "../support/instance.ts";
import { readSnapshot } from "../support/revocation-stream.ts";
import { findFakeTime, type SteppingServer, startSteppingServer } from "../support/stepping-server.ts";
import {
  buildForeign,
  type Population,
  type Rounds,
  seeAllReject,
  startPopulation,
  startRounds,
} from "./population.ts";

const library = findFakeTime();
const describeWithFakeTime = library === undefined ? describe.skip : describe;

/** All keys of the start would have expired an hour later. */
const settings = {
  KEY_ROTATION_SCHEDULE: "*/10 * * * *",
  LOGIN_ATTEMPTS: "10000",
};
const hourSeconds = 3600;
const toleranceSeconds = 2;
/** Before the step, and after it is adopted. */
const roundsEach = 20;

const nowSeconds = () => (performance.timeOrigin + performance.now()) / 1000;
const foreign = library === undefined ? [] : await buildForeign();
const kidsOf = async (instance: TestInstance) => [...(await servedKeys(instance)).keys()];

describeWithFakeTime.each([
  ["ahead", hourSeconds],
  ["behind", -hourSeconds],
])("the database's clock steps an hour %s (needs libfaketime on this machine)", (_, stepSeconds) => {
  let server: SteppingServer;
  let balancer: Balancer;
  let instances: TestInstance[];
  let newcomer: TestInstance | undefined;
  let kids: readonly string[];
  let population: Population;
  let rounds: Rounds;

  const start = () =>
    startInstance({ databaseUrl: server.url, settings: { ISSUER: balancer.url, ...settings } });

  beforeAll(async () => {
    [server, balancer] = await Promise.all([startSteppingServer(library ?? ""), startBalancer()]);
    await addAccount(server.url);
    instances = await Promise.all([start(), start()]);
    balancer.setTargets(instances.map(({ url }) => url));
    // Of both of them. What they issue by the other clock is left out: by everybody's own it is an hour too old or too new.
    const tokens: string[] = [];
    for (const { url } of instances) tokens.push((await login(url)).access_token);
    await eventually(async () => (await kidsOf(instances[0] as TestInstance)).length === 4);
    kids = await kidsOf(instances[0] as TestInstance);
    // A database that is an hour behind has no news of revocations: our verifier goes without any for longer than that.
    const revocation = { maxStaleness: "5m", whenStale: "reject" } as const;
    population = await startPopulation({ issuer: balancer.url, staleMs: 1000, foreign, revocation });
    await seeAllReject(population, tokens[0] ?? "");
    rounds = startRounds(population, tokens);
    await rounds.more(roundsEach);
  });
  afterAll(async () => {
    await rounds.stop();
    await population.close();
    await Promise.all([...instances, newcomer].map((instance) => instance?.stop("SIGKILL")));
    await balancer.close();
    await server.remove();
  });

  /** An hour off, or not: by how much the times in its tokens differ from ours; undefined where it issues none. */
  async function offsetOfTokens({ url }: TestInstance): Promise<number | undefined> {
    const answer = await postLogin(url);
    if (answer.status === 503) return undefined;
    const { access_token } = (await answer.json()) as { access_token: string };
    return (decodeJwt(access_token).iat ?? Number.NaN) - nowSeconds();
  }

  test("it is noticed and not followed; after a minute of agreement it is adopted, no key has left, and nobody rejects a token", async () => {
    await refuseToFollow();
    await adopt();
    await rounds.more(roundsEach);
    process.stderr.write(`each has accepted ${population.leastAccepted()} tokens at least\n`);
    expect(rounds.complaints).toEqual(new Map());
    expect(population.leastAccepted()).toBeGreaterThan(300);
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
    // that theirs are over. It never learns of these, so that nobody reads from it.
    newcomer = await start();
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
