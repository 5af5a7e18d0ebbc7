/**
 * A fleet of a thousand on a real database in virtual time. Whatever may change something is done for real: joining, first
 * signs of life, publications, requests for a place that may be granted, looking for the lost where one is, leaving,
 * pruning. What is known to change nothing is reckoned: readings of the state in between, heartbeats (they are written, by
 * one statement for all), requests for a place while none is free. Statements take no virtual time.
 */

import type { Account } from "../../src/accounts/account.ts";
import { minuteMs, secondMs } from "../../src/clock.ts";
import { retirementMs } from "../../src/keys/published-key.ts";
import { createGarbageCollector } from "../../src/keys/secure-heap.ts";
import { createInstanceStore } from "../../src/postgres/instances.ts";
import { type Pool, type Queryable, timestamp } from "../../src/postgres/pool.ts";
import { prune } from "../../src/postgres/prune.ts";
import type { FleetSettings } from "../keys/simulated-instance.ts";
import { createLoanOffice } from "../keys/simulated-loans.ts";
import type { VirtualTime } from "../support/virtual-time.ts";
import { createEventQueue } from "./event-queue.ts";
import { createMemberInstance, type Member, nextTurnMs, tickEveryMs } from "./fleet-member.ts";
import { type Sample, takeSample, watchersOf } from "./fleet-sample.ts";
import { noStatements, type StatementCounts } from "./statement-load.ts";

export interface LargeFleet {
  nowMs(): number;
  members(): readonly Member[];
  samples: readonly Sample[];
  /** Sent for real, and requests for a place reckoned. */
  counts(): StatementCounts;
  instanceSeconds(): number;
  notificationsHeard(): number;
  at(timeMs: number, work: () => Promise<unknown>): void;
  runUntil(timeMs: number): Promise<void>;
  join(): Promise<Member>;
  /** kill -9 of one that has just issued a token. */
  kill(member: Member): Promise<void>;
  /** SIGTERM: it drains, gives up its place, lends until it is not needed, and stops. */
  leave(member: Member, lingerMs: number): Promise<void>;
  isSigner(member: Member): boolean;
}

const collectGarbage = createGarbageCollector();
const beatEveryMs = 5 * secondMs;
const drainMs = 5 * secondMs;
/** Whether it may leave is asked every half second; its answer changes when another's key matures. */
const lingerPollMs = 5 * secondMs;
/** Each instance does every five minutes, and nearly always finds nothing. */
const pruneEveryMs = 20 * minuteMs;
const never = Number.POSITIVE_INFINITY;

export function createLargeFleet(options: {
  readonly settings: FleetSettings;
  readonly pool: Pool;
  readonly time: VirtualTime;
  readonly account: Account;
  random(): number;
  demand(holds: boolean, claim: string): void;
}): LargeFleet {
  const { settings, pool, time, random, demand } = options;
  const { propagationDelayMs } = settings;
  const keptAfterRetirementMs = settings.accessTokenTtlMs + settings.verifyGraceMs;
  const direct = time.wrap(pool as Queryable);
  const queue = createEventQueue(time);
  const office = createLoanOffice();
  const members: Member[] = [];
  const samples: Sample[] = [];
  const counts = noStatements();
  let version = -1;
  /** Watchers that have read the keys as they are. */
  const told = new Set<string>();
  let writtenAtMs = 0;
  let countedAtMs = time.nowMs();
  let instanceSeconds = 0;
  let notificationsHeard = 0;
  let expectedChangeMs = never;
  let order = 0;
  let started = 0;
  let forgotten = 0;

  const hasKeys = ({ instance }: Member) =>
    instance.ring.keys().some((key) => retirementMs(key) > time.nowMs());
  const isSigner = (member: Member) => member.state === "live" && hasKeys(member);
  const borrowers = () => members.filter((member) => member.state === "live" && !hasKeys(member));
  const askEveryMs = ({ jitter }: Member) =>
    Math.ceil((5 * secondMs * (0.75 + jitter / 2)) / tickEveryMs) * tickEveryMs;
  const lastBeatMs = ({ joinedAtMs }: Member) =>
    joinedAtMs + Math.floor((time.nowMs() - joinedAtMs) / beatEveryMs) * beatEveryMs;

  /** As `keyfleet.beat` does for an instance that was never silent. */
  async function writeBeats(of: readonly Member[]): Promise<void> {
    await direct.query(
      `update keyfleet.instances i set heartbeat_at = greatest(i.heartbeat_at, given.at)
       from unnest($1::uuid[], $2::timestamptz[]) as given (id, at) where i.id = given.id`,
      [of.map(({ instance }) => instance.id), of.map((member) => timestamp(lastBeatMs(member)))],
    );
  }

  async function keepBeats(): Promise<void> {
    if (time.nowMs() < writtenAtMs + secondMs) return;
    writtenAtMs = time.nowMs();
    await writeBeats(members);
  }

  /** What its timers do at a moment when it matters: twice, for the clockwork may find only then what is to do. */
  async function act(member: Member): Promise<void> {
    if (member.state !== "live") return;
    await keepBeats();
    await member.instance.beat();
    await member.instance.beat();
    plan(member);
  }

  function plan(member: Member): void {
    const { instance } = member;
    const nowMs = time.nowMs();
    if (instance.isPlaceless()) {
      member.nextAskMs = nowMs + askEveryMs(member);
      if (hasKeys(member)) queue.at(member.nextAskMs, () => act(member));
      return;
    }
    member.nextAskMs = never;
    queue.at(nextTurnMs({ ...settings, keptAfterRetirementMs, jitter: member.jitter }, nowMs), () =>
      act(member),
    );
  }

  /** Requests of the placeless that were refused since, and would be again: none is free. */
  function countAsks(hasChanged: boolean): void {
    const nowMs = time.nowMs();
    for (const member of borrowers()) {
      const everyMs = askEveryMs(member);
      if (member.nextAskMs < nowMs) {
        const asks = Math.ceil((nowMs - member.nextAskMs) / everyMs);
        counts.place += asks;
        member.nextAskMs += asks * everyMs;
      }
      if (hasChanged) member.nextAskMs = Math.min(member.nextAskMs, nowMs + secondMs * member.jitter);
    }
  }

  function count(): void {
    instanceSeconds += (members.length * (time.nowMs() - countedAtMs)) / secondMs;
    countedAtMs = time.nowMs();
  }

  function sample(): void {
    const { served, taken } = takeSample(members, {
      nowMs: time.nowMs(),
      propagationDelayMs,
      demand,
    });
    samples.push(taken);
    if (!Number.isFinite(served.changesAtMs) || served.changesAtMs === expectedChangeMs) return;
    expectedChangeMs = served.changesAtMs;
    queue.at(expectedChangeMs + 1, async () => undefined);
  }

  /** After each event: those that are watched read a change, and who may get a place asks for it. */
  async function observe(): Promise<void> {
    const { rows } = await direct.query<{ version: number }>(
      "select directory_version as version from keyfleet.fleet_state",
    );
    const hasChanged = rows[0]?.version !== version;
    version = rows[0]?.version ?? version;
    count();
    countAsks(hasChanged);
    if (hasChanged) {
      notificationsHeard += members.length;
      told.clear();
    }
    for (const { instance } of watchersOf(members)) {
      if (!told.has(instance.id)) await instance.sync();
      told.add(instance.id);
    }
    sample();
    await offerPlace();
  }

  async function offerPlace(): Promise<void> {
    const [judge] = borrowers();
    if (judge === undefined) return;
    await keepBeats();
    const { rows } = await direct.query<{ free: boolean }>("select keyfleet.has_place($1, $2) as free", [
      judge.instance.id,
      settings.maxSigners,
    ]);
    if (rows[0]?.free !== true) return;
    const asking = borrowers().reduce((first, member) =>
      member.nextAskMs < first.nextAskMs ? member : first,
    );
    if (asking.nextAskMs === never) return;
    queue.at(asking.nextAskMs, () => act(asking));
    asking.nextAskMs = never;
  }

  /** The first of all whose turn it is, and again where a key was spared. */
  async function lookForLost(lost: Member): Promise<void> {
    const judge = members.find(
      ({ state, joinedAtMs }) => state === "live" && joinedAtMs < time.nowMs() - minuteMs,
    );
    if (judge === undefined) return queue.at(time.nowMs() + secondMs, () => lookForLost(lost));
    await keepBeats();
    await createInstanceStore(direct).retireLost(judge.instance.id);
    const { rows } = await direct.query<{ left: number }>(
      `select count(*) as left from keyfleet.signing_keys k
       where k.instance_id = $1 and keyfleet.key_retirement(k) > pg_catalog.clock_timestamp()`,
      [lost.instance.id],
    );
    if ((rows[0]?.left ?? 0) > 0) queue.at(time.nowMs() + secondMs, () => lookForLost(lost));
  }

  async function pruneOften(): Promise<void> {
    const inTime: Queryable = {
      query: (text, values) =>
        direct.query(text.replaceAll("pg_catalog.now()", "pg_catalog.clock_timestamp()"), values),
    };
    await prune(inTime, 90 * 24 * 60 * minuteMs);
    queue.at(time.nowMs() + pruneEveryMs, pruneOften);
  }
  queue.at(time.nowMs() + pruneEveryMs, pruneOften);

  function forget(member: Member): void {
    count();
    countAsks(false);
    member.state = "gone";
    members.splice(members.indexOf(member), 1);
    office.close(member.instance.id);
    member.instance.ring.dropAll();
    // Its keys lie in the secure heap, which has room for some two thousand.
    if (++forgotten % 100 === 0) collectGarbage();
  }

  return {
    nowMs: () => time.nowMs(),
    members: () => members,
    samples,
    counts: () => ({ ...counts }),
    instanceSeconds() {
      count();
      return instanceSeconds;
    },
    notificationsHeard: () => notificationsHeard,
    at: queue.at,
    runUntil: (timeMs) => queue.runUntil(timeMs, observe),
    isSigner,
    async join() {
      const jitter = random();
      const instance = createMemberInstance({
        ...{ number: ++started, settings, jitter, pool, time, office, account: options.account, demand },
        monotonicOriginMs: random() * 1e9,
        nextOrder: () => ++order,
        onAnswered: (kind) => {
          counts[kind] += 1;
        },
      });
      const member: Member = { instance, jitter, joinedAtMs: time.nowMs(), state: "live", nextAskMs: never };
      count();
      members.push(member);
      counts.join += 2;
      await act(member);
      return member;
    },
    async kill(member) {
      await keepBeats();
      await writeBeats([member]);
      if (isSigner(member)) await member.instance.login();
      const silentAtMs = lastBeatMs(member) + 15 * secondMs;
      const deadAtMs = lastBeatMs(member) + minuteMs;
      forget(member);
      queue.at(silentAtMs + 1, async () => undefined);
      queue.at(deadAtMs + 1 + random() * secondMs, () => lookForLost(member));
    },
    async leave(member, lingerMs) {
      const instances = createInstanceStore(direct);
      const { id } = member.instance;
      const endsAtMs = time.nowMs() + drainMs + lingerMs;
      async function linger(): Promise<void> {
        await keepBeats();
        if (member.state === "live") {
          member.state = "leaving";
          counts.leave += 1;
          await instances.giveUpPlace(id);
        }
        const replacedInMs = await instances.replacedInMs(id, propagationDelayMs);
        if (time.nowMs() < endsAtMs && replacedInMs !== 0) {
          counts.leave += lingerPollMs / (secondMs / 2);
          return queue.at(time.nowMs() + lingerPollMs, linger);
        }
        counts.leave += 1;
        if (hasKeys(member)) await member.instance.login();
        counts.leave += 1;
        await instances.stop(id);
        forget(member);
      }
      queue.at(time.nowMs() + drainMs, linger);
    },
  };
}
