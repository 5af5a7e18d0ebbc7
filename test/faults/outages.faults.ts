/** Postgres goes from everybody, in every way that it can, for longer than a death takes; then all return at once. */

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
import { verifyThrough } from "../fleet/stock-verification.ts";
import { addAccount, login } from "../support/accounts.ts";
import { type OwnServer, startOwnServer } from "../support/own-server.ts";

let server: OwnServer;
let fleet: SilentFleet;
let people: People;

beforeEach(async () => {
  server = await startOwnServer({});
  await addAccount(server.url);
  fleet = await startSilentFleet(server, { LOGIN_ATTEMPTS: "10000" });
  people = startPeople({ urls: () => fleet.instances.map(({ url }) => url), people: 4 });
});
afterEach(async () => {
  await people.stop();
  await fleet.stop();
  await server.remove();
});

/** They look for the lost every ten seconds, and take a moment for it. */
const oneLookMs = 12_000;

/** All are away from the server when the hour passes, and return at once. */
async function passAnHourAway(): Promise<void> {
  fleet.proxy.setMode("refuse");
  await fleet.passAnHour();
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
  "Postgres %s: nobody is declared dead, no session is lost, and all comes back by itself",
  async (_, goAway) => {
    const { instances } = fleet;
    const { access_token: token } = await login(instances[0].url);
    const jwks = await sharedJwks(instances);
    await goAway();
    expect(await jwksOf(instances[0])).toBe(jwks);
    await passAnHourAway();
    await eventuallyAll(instances, canIssue, 15_000);
    await pause(oneLookMs);
    expect(await fleet.endedKeys()).toEqual([]);
    for (const instance of instances) {
      expect(await jwksOf(instance)).toBe(jwks);
      await verifyThrough(instance, token);
    }
    await people.stop();
    expect(people.failures).toEqual([]);
    expect(people.count).toMatchObject({ refused: 0 });
    expect(people.count.logins).toBeGreaterThan(10);
  },
);
