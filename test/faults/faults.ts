/** Every kind of fault there is: what it does to a fleet, and how long. Each resolves when it is over. */

import { setTimeout as pause } from "node:timers/promises";
import type { ProxyMode } from "../support/tcp-proxy.ts";
import { type KillPoint, type KillPointName, killPoints } from "./kill-points.ts";
import type { Ledger } from "./ledger.ts";
import { createSeededRandom, type SeededRandom } from "./seeded-random.ts";
import type { StormDatabase } from "./storm-database.ts";
import type { Member, StormyFleet } from "./stormy-fleet.ts";

export type NetworkFault = Exclude<ProxyMode, "pass">;

export type Faults = ReturnType<typeof createFaults>;

export const networkFaults: readonly NetworkFault[] = ["hang", "refuse", "half-open"];

/** Each is counted where it meets somebody. */
export const faultKinds = [
  ...(["start", "terminate", "kill", "pause", "cut connections", "delay"] as const),
  ...(["network of one: hang", "network of one: refuse", "network of one: half-open"] as const),
  ...(["network of all: hang", "network of all: refuse", "network of all: half-open"] as const),
  ...(["lost notifications of one", "lost notifications of all"] as const),
  ...(["terminated keyfleet-listen", "terminated keyfleet%"] as const),
  ...(["database stop", "database crash", "key revocation", "replacement of all", "scale"] as const),
  ...(["migration"] as const),
  ...[...killPoints.keys()].map((point) => `kill ${point}` as const),
] as const;
export type FaultKind = (typeof faultKinds)[number];
/** The ledger's name for it. */
export const countOf = (kind: FaultKind) => `fault, ${kind}`;

const patienceMs = 30_000;
/** A key is published once in a period, of a minute at most. */
const statementPatienceMs = 75_000;

export function createFaults(deps: {
  readonly database: StormDatabase;
  readonly fleet: StormyFleet;
  readonly ledger: Ledger;
  readonly random: SeededRandom;
}) {
  const { database, fleet, ledger, random } = deps;
  const { tell } = ledger;
  const met = (kind: FaultKind) => ledger.count(countOf(kind));

  /** One that serves, and that every other fault leaves alone meanwhile; waits until there is one. */
  async function onOne(
    kind: FaultKind,
    work: (member: Member) => Promise<void>,
    fits: (member: Member) => boolean = () => true,
  ): Promise<void> {
    for (const deadlineMs = Date.now() + patienceMs; Date.now() < deadlineMs; await pause(50)) {
      const member = random.pick(fleet.serving().filter((one) => !one.busy && fits(one)));
      if (member === undefined) continue;
      member.busy = true;
      met(kind);
      await work(member);
      member.busy = false;
      return;
    }
    ledger.count("faults that met nobody");
  }

  /** Everybody, those that leave included. */
  async function onAll(kind: FaultKind, work: () => Promise<void>): Promise<void> {
    const release = living().map((member) => member.hinder("cut"));
    if (release.length > 0) met(kind);
    await work();
    for (const end of release) end();
  }

  const living = () => fleet.members.filter(({ state }) => state !== "gone");

  return {
    async start(): Promise<void> {
      await fleet.start();
      met("start");
    },

    /** Of the next release, which brings the schema up to date; who starts after it is of that release too. */
    async migrate(): Promise<void> {
      await fleet.startLaterRelease();
      met("migration");
    },

    terminate: () => onOne("terminate", (member) => fleet.terminate(member)),

    kill: () => onOne("kill", (member) => fleet.kill(member)),

    /** Whoever comes to it first, that no other fault has met; but not the last. */
    async killAt(point: KillPointName): Promise<void> {
      const { text, strike } = killPoints.get(point) as KillPoint;
      tell(`whoever comes to it is killed ${point}`);
      const struck = fleet.serving().map((member) => ({ member, ...member.strikeAt(text, strike) }));
      const isFree = ({ state, busy }: Member) => state === "serving" && !busy && fleet.serving().length > 1;
      const waiting = new AbortController();
      const victim = await new Promise<Member | undefined>((resolve) => {
        for (const { member, reached, release } of struck)
          void reached.then(() => (isFree(member) ? resolve(member) : release()));
        pause(statementPatienceMs, undefined, waiting).then(resolve, () => undefined);
      });
      waiting.abort();
      for (const { member, cancel, release } of struck) {
        cancel();
        if (member !== victim) release();
      }
      if (victim === undefined) return ledger.count("faults that met nobody");
      victim.busy = true;
      met(`kill ${point}`);
      await fleet.kill(victim);
    },

    pause: (forMs: number) => onOne("pause", (member) => fleet.pause(member, forMs)),

    networkOfOne: (mode: NetworkFault, forMs: number) =>
      onOne(`network of one: ${mode}`, async (member) => {
        tell(`the network of ${member.name}: ${mode} for ${Math.round(forMs)} ms`);
        const release = member.hinder("cut");
        member.setNetwork(mode);
        await pause(forMs);
        member.setNetwork("pass");
        release();
      }),

    networkOfAll: (mode: NetworkFault, forMs: number) =>
      onAll(`network of all: ${mode}`, async () => {
        tell(`the network of all: ${mode} for ${Math.round(forMs)} ms`);
        const cut = living();
        for (const member of cut) member.setNetwork(mode);
        await pause(forMs);
        for (const member of cut) member.setNetwork("pass");
      }),

    cutConnections: () =>
      onOne("cut connections", async (member) => {
        tell(`the connections of ${member.name} are cut`);
        member.cutConnections();
        member.hinder("cut")();
      }),

    delay: (upToMs: number, forMs: number) =>
      onOne("delay", async (member) => {
        tell(
          `the network of ${member.name}: up to ${Math.round(upToMs)} ms slower for ${Math.round(forMs)} ms`,
        );
        const release = member.hinder("slow");
        // A source of its own: which fault comes next must not depend on how many packets there were.
        const packets = createSeededRandom(random.next() * 2 ** 32);
        member.setDelay(() => packets.between(0, upToMs));
        await pause(forMs);
        member.setDelay(undefined);
        release();
      }),

    /** The fleet's state is polled then, and nothing is lent. */
    loseNotifications: (forMs: number, whose: "one" | "all") => {
      const lose = async (deaf: readonly Member[]) => {
        const names = deaf.map(({ name }) => name).join(" ");
        tell(`no notification reaches ${names} for ${Math.round(forMs)} ms`);
        for (const member of deaf) member.setNotifications("hang");
        await pause(forMs);
        for (const member of deaf) member.setNotifications("pass");
      };
      if (whose === "one") return onOne("lost notifications of one", (member) => lose([member]));
      met("lost notifications of all");
      return lose(living());
    },

    /** `keyfleet-listen`: of the listeners alone, without whom the fleet's state is polled. Waits until there are any. */
    async terminateBackends(application: "keyfleet-listen" | "keyfleet%"): Promise<void> {
      for (const deadlineMs = Date.now() + patienceMs; Date.now() < deadlineMs; await pause(50)) {
        const release = living().map((member) => member.hinder(application === "keyfleet%" ? "cut" : "slow"));
        const terminated = await database.query(
          "select pg_terminate_backend(pid) from pg_stat_activity where application_name like $1",
          [application],
        );
        for (const end of release) end();
        if (terminated.length === 0) continue;
        tell(`${terminated.length} backends of ${application} are terminated`);
        return met(`terminated ${application}`);
      }
      ledger.count("faults that met nobody");
    },

    restartDatabase: (how: "stop" | "crash") =>
      onAll(`database ${how}`, async () => {
        tell(`PostgreSQL: ${how}`);
        await database.restart(how);
        tell("PostgreSQL is back");
      }),

    async revokeKeys(): Promise<void> {
      const signers = await database.query<{ id: string }>(
        "select distinct instance_id as id from keyfleet.signing_keys where retires_at > clock_timestamp()",
      );
      const ids = new Set(signers.map(({ id }) => id));
      const revoke = async (member: Member) => {
        const id = member.instanceId();
        tell(`the keys of ${member.name} are revoked`);
        const rows = await database.query<{ kid: string }>(
          "select kid from keyfleet.signing_keys where instance_id = $1",
          [id],
        );
        const kids = new Set(rows.map(({ kid }) => kid));
        const ending = ledger.noteEnding(({ kid }) => kids.has(kid));
        await database.query("select keyfleet.revoke_instance_keys($1, false, 'storm', null)", [id]);
        ending.answered();
      };
      await onOne("key revocation", revoke, (member) => ids.has(member.instanceId()));
    },

    /** New ones first, and all the old at once when those are ready, as a deployment does. */
    async replaceAll(): Promise<void> {
      const old = fleet.serving();
      tell(`the whole fleet of ${old.length} is replaced`);
      if (old.length > 0) met("replacement of all");
      await Promise.all(old.map(() => fleet.start()));
      await Promise.all(
        old.filter(({ state }) => state === "serving").map((member) => fleet.terminate(member)),
      );
    },

    async scaleTo(count: number): Promise<void> {
      const before = fleet.serving();
      tell(`scale from ${before.length} to ${count}`);
      if (count !== before.length) met("scale");
      const more = Array.from({ length: Math.max(0, count - before.length) }, () => fleet.start());
      const fewer = before.slice(0, Math.max(0, before.length - count));
      await Promise.all([...more, ...fewer.map((member) => fleet.terminate(member))]);
    },
  };
}
