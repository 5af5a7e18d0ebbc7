import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { createClientManagement } from "../../src/clients/manage-clients.ts";
import { createClientStore } from "../../src/postgres/clients.ts";
import { manageAccounts, testActing, testSecrets } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { amount } from "../support/long-form.ts";
import { type RestartingFleet, startRestartingFleet } from "./restarting-fleet.ts";
import { type Action, anyAction, endings } from "./session-actions.ts";
import { createLife, type Model, TooSlow, type World } from "./session-life.ts";
import { createPerson, type Person } from "./session-person.ts";

/** I8 and the endings: all that a session's life should be. */
const model: Model = {
  refresh({ isAlive, tokens }, generation, isInGrace) {
    const current = tokens.length - 1;
    if (!isAlive) return "refused";
    if (generation === current) return "successor";
    if (!isInGrace) return "ends";
    return generation === current - 1 ? "successor" : "refused";
  },
  outlives(ending, isOwn) {
    if (ending === "password change") return isOwn;
    return ending.startsWith("logout by") && !isOwn;
  },
};

const issuer = "http://localhost";
const graceMs = 1500;
/** No other run begins after this; a quiet machine does all of them. */
const enoughMs = 20_000;
const settings = { ISSUER: issuer, REFRESH_GRACE: `${graceMs}ms`, LOGIN_ATTEMPTS: "10000" };

let database: TestDatabase;
let fleet: RestartingFleet;
let introspector: string;

beforeAll(async () => {
  database = await freshDatabase();
  const clients = createClientManagement({
    store: createClientStore(database.pool),
    secrets: testSecrets,
    allowedAudiences: [issuer],
    who: testActing,
  });
  const secret = await clients.add({ id: "orders", audiences: [issuer], scopes: [] });
  introspector = `Basic ${Buffer.from(`orders:${secret}`).toString("base64")}`;
  fleet = await startRestartingFleet(database, settings);
}, 60_000);
afterAll(async () => {
  await fleet.close();
  await database.drop();
}, 60_000);

const session = 1;
/** Everything that can happen, at least once, whatever fast-check makes up. */
const endedLives = endings.map((by): Action[] => [
  { type: "login", slot: 0 },
  { type: "login", slot: 1 },
  { type: "end", session, by, slot: 2, racing: [0, 1] },
  { type: "refresh", session: 0, slots: [1, 2] },
  { type: "refresh", session, slots: [2] },
]);
const replayedLives = (["client hangs up", "instance killed"] as const).map((how): Action[] => [
  { type: "refresh", session, slots: [0] },
  { type: "refresh", session, slots: [2, 0] },
  { type: "replay", session, back: 2, afterGrace: false, slots: [1] },
  { type: "replay", session, back: 1, afterGrace: false, slots: [0, 2] },
  { type: "lose", session, how, afterMs: 4, slot: 0, slots: [1, 2] },
  { type: "forge", session, ahead: -1, at: "/token", slot: 1 },
  { type: "forge", session, ahead: 0, at: "/logout", slot: 2 },
  { type: "refresh", session, slots: [2] },
  { type: "replay", session, back: how === "instance killed" ? 1 : 2, afterGrace: true, slots: [0, 1] },
]);

async function live(world: World, person: Person, actions: readonly Action[]): Promise<void> {
  const life = createLife(world, person);
  for (const [step, action] of actions.entries()) {
    try {
      await life.act(action);
      if (action.type !== "refresh") await life.introspectAll(step);
    } catch (error) {
      if (error instanceof TooSlow) return world.saw("given up");
      throw new Error(`at step ${step}, ${JSON.stringify(action)}`, { cause: error });
    }
  }
  await life.close();
}

test("sessions live as the model says, whatever comes at once, is lost or is killed", async () => {
  const seen = new Map<string, number>();
  const saw = (what: string) => void seen.set(what, (seen.get(what) ?? 0) + 1);
  const world: World = { database, fleet, graceMs, model, saw };
  const anyLife = fc.array(anyAction, { minLength: 1, maxLength: 14, size: "max" });
  const deadlineMs = performance.now() + enoughMs;
  await manageAccounts(database.url, async (accounts) => {
    const property = fc.asyncProperty(
      fc.array(anyLife, { minLength: 1, maxLength: 10, size: "max" }),
      async (abreast) => {
        // Not fast-check's own limit, which leaves what is under way to itself.
        if (performance.now() > deadlineMs) return;
        const lived = abreast.map(async (actions) =>
          live(world, await createPerson({ fleet, accounts, introspector }), actions),
        );
        // All of them come to rest before fast-check tries with less.
        const failed = (await Promise.allSettled(lived)).find(({ status }) => status === "rejected");
        if (failed?.status === "rejected") throw failed.reason;
      },
    );
    await fc.assert(property, { numRuns: amount(3, 40), examples: [[replayedLives], [endedLives]] });
  });
  expect([...endings, ...outcomes].filter((what) => !seen.has(what))).toEqual([]);
}, 120_000);

/** What has to have been seen, or the test would have shown nothing of it. */
const outcomes = [
  "current: successor",
  "current: over",
  "older in its grace: successor",
  "older in its grace: refused",
  "older after its grace: ends",
  "lost: client hung up",
  "lost: instance killed",
  "made up: /token",
  "made up: /logout",
  "raced: some were faster",
];
