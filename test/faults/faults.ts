/** Every kind of fault there is: what it does to a fleet, and how long. Each resolves when it is over. */

import { setTimeout as pause } from "node:timers/promises";
import type { ProxyMode } from "../support/tcp-proxy.ts";
import type { Ledger } from "./ledger.ts";
import { createSeededRandom, type SeededRandom } from "./seeded-random.ts";
import type { StormDatabase } from "./storm-database.ts";
import type { Member, StormyFleet } from "./stormy-fleet.ts";

export type NetworkFault = Exclude<ProxyMode, "pass">;

export type Faults = ReturnType<typeof createFaults>;

const patienceMs = 30_000;

export function createFaults(deps: {
  readonly database: StormDatabase;
  readonly fleet: StormyFleet;
  readonly ledger: Ledger;
  readonly random: SeededRandom;
}) {
  const { database, fleet, ledger, random } = deps;
  const { tell } = ledger;

  /** One that serves, and that every other fault leaves alone meanwhile; waits until there is one. */
  async function onOne(work: (member: Member) => Promise<void>): Promise<void> {
    for (const deadlineMs = Date.now() + patienceMs; Date.now() < deadlineMs; await pause(50)) {
      const member = random.pick(fleet.serving().filter(({ busy }) => !busy));
      if (member === undefined) continue;
      member.busy = true;
      await work(member);
      member.busy = false;
      return;
    }
    ledger.count("faults that met nobody");
  }

  /** Everybody, those that leave included. */
  async function onAll(work: () => Promise<void>): Promise<void> {
    const release = fleet.members
      .filter(({ state }) => state !== "gone")
      .map((member) => member.hinder("cut"));
    await work();
    for (const end of release) end();
  }

  const living = () => fleet.members.filter(({ state }) => state !== "gone");

  return {
    start: async () => void (await fleet.start()),

    terminate: () => onOne((member) => fleet.terminate(member)),

    kill: () => onOne((member) => fleet.kill(member)),

    pause: (forMs: number) => onOne((member) => fleet.pause(member, forMs)),

    networkOfOne: (mode: NetworkFault, forMs: number) =>
      onOne(async (member) => {
        tell(`the network of ${member.name}: ${mode} for ${Math.round(forMs)} ms`);
        const release = member.hinder("cut");
        member.setNetwork(mode);
        await pause(forMs);
        member.setNetwork("pass");
        release();
      }),

    networkOfAll: (mode: NetworkFault, forMs: number) =>
      onAll(async () => {
        tell(`the network of all: ${mode} for ${Math.round(forMs)} ms`);
        const cut = living();
        for (const member of cut) member.setNetwork(mode);
        await pause(forMs);
        for (const member of cut) member.setNetwork("pass");
      }),

    cutConnections: () =>
      onOne(async (member) => {
        tell(`the connections of ${member.name} are cut`);
        member.cutConnections();
        member.hinder("slow")();
      }),

    delay: (upToMs: number, forMs: number) =>
      onOne(async (member) => {
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
      return whose === "all" ? lose(living()) : onOne((member) => lose([member]));
    },

    /** `keyfleet-listen`: of the listeners alone. */
    async terminateBackends(application: "keyfleet-listen" | "keyfleet%"): Promise<void> {
      tell(`backends of ${application} are terminated`);
      for (const member of living()) member.hinder("slow")();
      await database.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name like $1",
        [application],
      );
    },

    restartDatabase: (how: "stop" | "crash") =>
      onAll(async () => {
        tell(`PostgreSQL: ${how}`);
        await database.restart(how);
        tell("PostgreSQL is back");
      }),

    revokeKeys: () =>
      onOne(async (member) => {
        const id = member.instanceId();
        tell(`the keys of ${member.name} are revoked`);
        const rows = await database.query<{ kid: string }>(
          "select kid from keyfleet.signing_keys where instance_id = $1",
          [id],
        );
        const kids = new Set(rows.map(({ kid }) => kid));
        const ending = ledger.noteEnding(({ kid }) => kids.has(kid));
        await database.query("select keyfleet.revoke_instance_keys($1, false, 'storm', null)", [id]);
        ledger.count("key rings revoked");
        ending.answered();
      }),

    /** New ones first, and all the old at once when those are ready, as a deployment does. */
    async replaceAll(): Promise<void> {
      const old = fleet.serving();
      tell(`the whole fleet of ${old.length} is replaced`);
      await Promise.all(old.map(() => fleet.start()));
      await Promise.all(
        old.filter(({ state }) => state === "serving").map((member) => fleet.terminate(member)),
      );
    },

    async scaleTo(count: number): Promise<void> {
      const before = fleet.serving();
      tell(`scale from ${before.length} to ${count}`);
      const more = Array.from({ length: Math.max(0, count - before.length) }, () => fleet.start());
      const fewer = before.slice(0, Math.max(0, before.length - count));
      await Promise.all([...more, ...fewer.map((member) => fleet.terminate(member))]);
    },
  };
}
