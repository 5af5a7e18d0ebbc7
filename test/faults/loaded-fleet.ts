/** A mature fleet under logins without a break, whose every token each of a population of consumers verifies at once. */

import { setTimeout as pause } from "node:timers/promises";
import { addAccount, eventually, login, postLogin } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { readMetric, type Settings } from "../support/instance.ts";
import type { ForeignKind } from "./consumers/foreign-consumers.ts";
import { readOnceConsumer } from "./consumers.ts";
import { startFront } from "./front.ts";
import { type Population, startPopulation } from "./population.ts";
import { createStormyFleet, type Member, type StormyFleet } from "./stormy-fleet.ts";

export interface LoadedFleet {
  readonly fleet: StormyFleet;
  readonly database: TestDatabase;
  /** Who checks the tokens; it reads them from `url`. */
  readonly population: Population;
  /** Where consumers read. */
  readonly url: string;
  /** So many more tokens are issued and verified. */
  more(tokens: number): Promise<void>;
  /** Issued, and verified by every consumer. */
  tokens(): number;
  /** A token that was issued beside the load is verified like those of the load. */
  check(token: string): Promise<void>;
  /** An access token. */
  logIn(member: Member): Promise<string>;
  /** Consumers that rejected any token, sorted. */
  rejecting(): readonly string[];
  /** What logins were answered by instances that served and went on serving, where it was no token. */
  refusals(): readonly string[];
  /** Of tokens issued since it was under load: those of a key that had been published for less than the delay. */
  immatureTokens(): Promise<number>;
  /** Instances that have published keys. */
  signers(): Promise<number>;
  /**
   * How long after the first of its successors' keys had matured a member stopped, by the database's clock: negative
   * where it did not wait for that.
   */
  stoppedAfterMaturityMs(member: Member, successors: readonly Member[], itsDelayMs?: number): Promise<number>;
}

/** In place of 30 s, 60 s, 5 min and 10 min; the delay is longer by two sync intervals and a second. */
const staleMs = 800;
const defaultDelayMs = 2000;

/** Rejects where it does not come to that; `onClose` is given what there is to close before anything is waited for. */
export async function startLoadedFleet(
  instances: number,
  settings: Settings,
  onClose: (close: () => Promise<void>) => void,
  load: {
    readonly people?: number;
    readonly foreign?: readonly ForeignKind[];
    /** How old a key is when it may sign, if `settings` do not say otherwise. */
    readonly delayMs?: number;
    /** How often a login is tried before its refusal counts: more than once where other tests keep the machine busy. */
    readonly tries?: number;
  } = {},
): Promise<LoadedFleet> {
  const { people = 1, foreign = [], delayMs = defaultDelayMs, tries = 1 } = load;
  const [database, front] = await Promise.all([freshDatabase(), startFront()]);
  await addAccount(database.url);
  let population: Population | undefined;
  let underWay: Promise<unknown> = Promise.resolve();
  let closed = false;
  const fleet = createStormyFleet({
    databaseUrl: database.url,
    settings: {
      ISSUER: front.url,
      LOGIN_ATTEMPTS: "10000",
      KEY_ROTATION_SCHEDULE: "0 0 1 1 *",
      FLEET_SYNC_INTERVAL: "100ms",
      KEY_PROPAGATION_DELAY: `${delayMs}ms`,
      ...settings,
    },
    tell: () => undefined,
  });
  front.setMembers(fleet.serving);
  onClose(async () => {
    closed = true;
    await underWay;
    await population?.close();
    await fleet.close();
    await front.close();
    await database.drop();
  });
  await Promise.all(Array.from({ length: instances }, () => fleet.start()));
  await eventually(async () => {
    for (const { instance } of fleet.serving()) {
      // Answered 503 while those who could lend have not said yet that they hear.
      await postLogin(instance.url);
      if ((await readMetric(instance, 'keyfleet_access_tokens_issued_total{key="mature"}')) === 0)
        return false;
    }
    return true;
  }, delayMs + 10_000);
  const reading = { issuer: front.url, staleMs };
  const besides = [await readOnceConsumer(reading)];
  population = await startPopulation({ ...reading, foreign, besides });
  const { rejecting: checkByAll, acceptingMadeUp } = population;
  const loadedAt = new Date();
  const rejecting = new Set<string>();
  const refusals: string[] = [];
  let tokens = 0;
  let turn = 0;
  let latest = "";

  async function check(token: string): Promise<void> {
    for (const name of (await checkByAll(token)).keys()) rejecting.add(name);
  }

  async function logIn({ instance }: Member): Promise<string> {
    for (let failures = 1; ; failures += 1) {
      try {
        return (await login(instance.url)).access_token;
      } catch (error) {
        if (failures >= tries) throw error;
        await pause(500);
      }
    }
  }

  async function logInOnAndOn(): Promise<void> {
    for (; !closed; await pause(20)) {
      const members = fleet.serving();
      turn += 1;
      const member = members[turn % members.length];
      if (member === undefined) continue;
      try {
        latest = await logIn(member);
      } catch (error) {
        // Who has just been sent away answers no more: its people go elsewhere.
        if (member.state === "serving") refusals.push(`${member.name}: ${error}`);
        continue;
      }
      await check(latest);
      tokens += 1;
    }
  }

  /** Beside it: an answer to these may take a second. */
  async function tryMadeUpKeys(): Promise<void> {
    for (; !closed; await pause(20)) if (tokens > 0) await acceptingMadeUp(latest);
  }

  underWay = Promise.all([...Array.from({ length: people }, logInOnAndOn), tryMadeUpKeys()]);
  const more = async (count: number) => {
    const enough = tokens + count;
    await eventually(() => tokens >= enough, 40_000);
  };
  await more(10);
  const delay = `${delayMs} milliseconds`;
  async function readNumber(statement: string, values: readonly unknown[]): Promise<number> {
    const { rows } = await database.pool.query<{ value: number }>(statement, [...values]);
    return rows[0]?.value ?? Number.NEGATIVE_INFINITY;
  }
  return {
    fleet,
    database,
    population,
    url: front.url,
    more,
    tokens: () => tokens,
    check,
    logIn,
    rejecting: () => [...rejecting].sort(),
    refusals: () => refusals,
    immatureTokens: () =>
      readNumber(
        `select count(*)::int as value from keyfleet.issued_tokens t join keyfleet.signing_keys k using (kid)
         where t.issued_at < k.published_at + $1::interval and t.issued_at > $2`,
        [delay, loadedAt],
      ),
    signers: () =>
      readNumber("select count(distinct instance_id)::int as value from keyfleet.signing_keys", []),
    stoppedAfterMaturityMs: (member, successors) =>
      readNumber(
        `select (extract(epoch from i.stopped_at - min(k.published_at) - $3::interval) * 1000)::int as value
         from keyfleet.instances i join keyfleet.signing_keys k on k.instance_id = any ($2)
         where i.id = $1 group by i.stopped_at`,
        [member.instanceId(), successors.map((one) => one.instanceId()), delay],
      ),
  };
}
