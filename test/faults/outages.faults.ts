/**
 * Postgres goes from everybody, in every way that it can, for longer than a death takes; then all return at once, and
 * nobody who checks tokens has noticed.
 */

import { setTimeout as pause } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { type People, startPeople } from "../fleet/people.ts";
import {
  canIssue,
  eventuallyAll,
  jwksOf,
  type SilentFleet,
  sharedJwks,
  startSilentFleet,
} from "../fleet/silent-fleet.ts";
import { addAccount, login } from "../support/accounts.ts";
import { type Balancer, startBalancer } from "../support/balancer.ts";
import { type OwnServer, startOwnServer } from "../support/own-server.ts";
import {
  buildForeign,
  type Population,
  type Rounds,
  seeAllReject,
  startPopulation,
  startRounds,
} from "./population.ts";

const foreign = await buildForeign();

let server: OwnServer;
let balancer: Balancer;
let fleet: SilentFleet;
let people: People;
let population: Population;
let rounds: Rounds;
/** All that people were given. */
let tokens: string[];

beforeEach(async () => {
  [server, balancer] = await Promise.all([startOwnServer({}), startBalancer()]);
  await addAccount(server.url);
  fleet = await startSilentFleet(server, { ISSUER: balancer.url, LOGIN_ATTEMPTS: "10000" });
  const urls = fleet.instances.map(({ url }) => url);
  balancer.setTargets(urls);
  tokens = [];
  people = startPeople({ urls: () => urls, people: 4, onToken: (token) => tokens.push(token) });
  // Our verifier rejects what it has known too little of for a minute, which is longer than any outage here.
  population = await startPopulation({ issuer: balancer.url, staleMs: 1000, foreign });
  rounds = startRounds(population, tokens);
});
afterEach(async () => {
  await rounds.stop();
  await population.close();
  await people.stop();
  await fleet.stop();
  await balancer.close();
  await server.remove();
});

/** They look for the lost every ten seconds, and take a moment for it. */
const oneLookMs = 12_000;
/** Before, while all are away, and after. */
const roundsEach = 10;

/** All are away from the server when the hour passes, and return at once. */
async function passAnHourAway(): Promise<void> {
  fleet.proxy.setMode("refuse");
  await Promise.all([fleet.passAnHour(), rounds.more(roundsEach)]);
  fleet.proxy.setMode("pass");
}

test.each<[string, () => Promise<void>]>([
  [
    "is stopped and started",
    async () => {
      await server.stop();
      await pause(2000);
      await server.start();
    },
  ],
  [
    "crashes and recovers",
    async () => {
      await server.stop("SIGQUIT");
      await server.start();
    },
  ],
  [
    "refuses everybody",
    async () => {
      fleet.proxy.setMode("refuse");
      await pause(3000);
    },
  ],
  [
    "is a black hole",
    async () => {
      fleet.proxy.setMode("hang");
      await pause(5000);
    },
  ],
])(
  "Postgres %s: nobody is declared dead, no session is lost, nobody rejects a token, and all comes back by itself",
  async (_, goAway) => {
    const { instances } = fleet;
    const jwks = await sharedJwks(instances);
    await rounds.more(roundsEach);
    await seeAllReject(population, tokens[0] ?? "");
    await goAway();
    expect(await jwksOf(instances[0])).toBe(jwks);
    await passAnHourAway();
    await eventuallyAll(instances, canIssue, 15_000);
    await pause(oneLookMs);
    expect(await fleet.endedKeys()).toEqual([]);
    for (const instance of instances) {
      expect(await jwksOf(instance)).toBe(jwks);
      const { access_token: fresh } = await login(instance.url);
      expect(await population.rejecting(fresh)).toEqual(new Map());
    }
    await rounds.more(roundsEach);
    await rounds.stop();
    process.stderr.write(`each has accepted ${population.leastAccepted()} tokens at least\n`);
    expect(rounds.complaints).toEqual(new Map());
    expect(population.leastAccepted()).toBeGreaterThan(100);
    await people.stop();
    expect(people.failures).toEqual([]);
    expect(people.count).toMatchObject({ refused: 0 });
    expect(people.count.logins).toBeGreaterThan(10);
  },
);
