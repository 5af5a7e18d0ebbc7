/**
 * A fleet and its consumers, all of them as they are by default, in real time: a new instance, rotations and a deployment,
 * and nobody rejects a valid token. Of the settings only the schedule is another, so that there is a rotation.
 */

import { randomInt } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { expect, test } from "@jest/globals";
import { decodeProtectedHeader } from "jose";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { addAccount, eventually, login } from "../support/accounts.ts";
import { startBalancer } from "../support/balancer.ts";
import { closeAfterEach } from "../support/close-after-each.ts";
import { freshDatabase } from "../support/database.ts";
import {
  neededSettings,
  readMetric,
  type Settings,
  startInstance,
  type TestInstance,
} from "../support/instance.ts";
import { buildForeign, startPopulation } from "./population.ts";

const minuteMs = 60_000;
/** The shortest period that is longer than the delay and a whole part of an hour. */
const schedule = "*/15 * * * *";
/** The delay is 12 min. */
const maturesWithinMs = 14 * minuteMs;
/** A minute less than they last. */
const tokensLastMs = 14 * minuteMs;
const signedByOwn = 'keyfleet_access_tokens_issued_total{key="mature"}';
const borrowed = 'keyfleet_access_tokens_issued_total{key="borrowed"}';

const foreign = await buildForeign();
const onClose = closeAfterEach(30_000);

/** One instance, and a session that is refreshed at one instance after the other; everybody checks each of its tokens. */
async function startUsedFleet(given: Settings) {
  const [database, balancer] = await Promise.all([freshDatabase(), startBalancer()]);
  const started: TestInstance[] = [];
  const stopAll = () => Promise.all(started.map((instance) => instance.stop("SIGKILL")));
  /** The last first. */
  const closing: (() => Promise<unknown>)[] = [database.drop, balancer.close, stopAll];
  onClose(async () => {
    for (const close of closing.reverse()) await close();
  });
  const settings = { ISSUER: balancer.url, KEY_ROTATION_SCHEDULE: schedule, ...given };
  let instances: readonly TestInstance[] = [];
  const setInstances = (next: readonly TestInstance[]) => {
    instances = next;
    balancer.setTargets(next.map(({ url }) => url));
  };
  async function start(): Promise<TestInstance> {
    const instance = await startInstance({ databaseUrl: database.url, settings, base: neededSettings });
    started.push(instance);
    setInstances([...instances, instance]);
    return instance;
  }
  await addAccount(database.url);
  const first = await start();
  const population = await startPopulation({ issuer: balancer.url, foreign });
  closing.push(population.close);

  const tokens: { readonly token: string; readonly issuedAtMs: number }[] = [];
  const complaints = new Set<string>();
  let session: TokenResponse = await login(first.url);
  let stopped = false;

  async function check(token: string): Promise<void> {
    for (const [name, why] of await population.rejecting(token)) complaints.add(`${name} rejects: ${why}`);
  }
  async function goRound(): Promise<void> {
    const at = instances[tokens.length % instances.length]?.url ?? "";
    const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token: session.refresh_token });
    const answer = await fetch(`${at}/token`, { method: "POST", body });
    if (!answer.ok) return void complaints.add(`a refresh: ${answer.status} ${await answer.text()}`);
    session = (await answer.json()) as TokenResponse;
    const issuedAtMs = Date.now();
    tokens.push({ token: session.access_token, issuedAtMs });
    const valid = tokens.filter((one) => one.issuedAtMs > issuedAtMs - tokensLastMs);
    await check(session.access_token);
    await check(valid[randomInt(valid.length)]?.token ?? "");
    // It has them read the JWKS, and then hold off from it for as long as they do.
    if (randomInt(5) === 0)
      for (const name of await population.acceptingMadeUp(session.access_token))
        complaints.add(`${name} accepts a made-up key`);
  }
  const rounds = (async () => {
    for (; !stopped; await pause(1500)) await goRound();
  })();
  closing.push(() => {
    stopped = true;
    return rounds;
  });
  return {
    first,
    start,
    population,
    complaints,
    tokens: () => tokens.length,
    kids: () => [...new Set(tokens.map(({ token }) => decodeProtectedHeader(token).kid))],
    async more(count: number) {
      const enough = tokens.length + count;
      await eventually(() => tokens.length >= enough, count * 10_000);
    },
    /** As a deployment does: off the balancer, then its signal. */
    async end(instance: TestInstance) {
      setInstances(instances.filter((one) => one !== instance));
      return instance.stop();
    },
  };
}

test(
  "through a new instance, rotations and a deployment nobody rejects a valid token",
  async () => {
    const fleet = await startUsedFleet({});
    const { first, population, complaints } = fleet;
    const matures = (instance: TestInstance) =>
      eventually(async () => (await readMetric(instance, signedByOwn)) > 0, maturesWithinMs, 1000);
    // Until then it signs all the same, alone as it is; who began to read after its start knows its keys.
    await matures(first);
    const second = await fleet.start();
    await fleet.more(20);
    expect(await readMetric(second, signedByOwn)).toBe(0);
    await matures(second);
    const lent = await readMetric(second, borrowed);
    expect(await fleet.end(first)).toBe(0);
    await fleet.more(40);
    process.stderr.write(
      `${fleet.tokens()} tokens of ${fleet.kids().length} keys, ${lent} of them borrowed, each accepted by ${population.names.length} consumers: ${population.names.join(", ")}; ${population.leastAccepted()} verifications at least\n`,
    );
    expect([...complaints]).toEqual([]);
    expect(lent).toBeGreaterThan(100);
    // Two of the first at least, for a period has ended, and one of the second.
    expect(fleet.kids().length).toBeGreaterThanOrEqual(3);
    expect(population.leastAccepted()).toBeGreaterThanOrEqual(fleet.tokens());
  },
  45 * minuteMs,
);

test(
  "control: without the delay a new instance signs at once, and those who hold off reject it",
  async () => {
    const { start, complaints } = await startUsedFleet({ KEY_PROPAGATION_DELAY: "0s" });
    await start();
    const rejecting = () => [...complaints].map((complaint) => complaint.split(" rejects")[0]);
    await eventually(
      () => ["jose", "fixed intervals alone (as Envoy)"].every((name) => rejecting().includes(name)),
      2 * minuteMs,
    );
  },
  3 * minuteMs,
);
