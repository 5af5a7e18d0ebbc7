/** A fleet on a real database in virtual time: what can happen to it, and how its time passes. */

import { expect } from "@jest/globals";
import { compactVerify, createLocalJWKSet, decodeJwt, decodeProtectedHeader } from "jose";
import type { Account } from "../../src/accounts/account.ts";
import type { FleetSecrets } from "../../src/fleet-secret.ts";
import { jwksText } from "../../src/keys/jwks-document.ts";
import type { Pool, Queryable } from "../../src/postgres/pool.ts";
import type { VirtualTime } from "../support/virtual-time.ts";
import { createDatabaseLink, type Outage } from "./database-link.ts";
import { type BeforeLogin, lendersFor } from "./fleet-lenders.ts";
import { createFleetRecord, type FleetRecord, knows, type Situation } from "./fleet-record.ts";
import { restoreBackup } from "./restored-backup.ts";
import {
  createInstanceId,
  createSimulatedInstance,
  type FleetSettings,
  type SimulatedInstance,
} from "./simulated-instance.ts";
import { createLoanOffice } from "./simulated-loans.ts";

export type Fate = "live" | "killed" | "stopped";

export interface SimulatedFleet {
  readonly settings: FleetSettings;
  readonly record: FleetRecord;
  /** How far an estimate of the database's clock may be off. */
  readonly toleranceMs: number;
  /** What happened, in words, for whoever reads a failure. */
  story(): string;
  tell(text: string): void;
  nowMs(): number;
  live(): readonly SimulatedInstance[];
  all(): readonly SimulatedInstance[];
  /** `slowMs`: how long the commit of its first publication takes. */
  start(jitter: number, slowMs: number): Promise<void>;
  kill(instance: SimulatedInstance): void;
  stop(instance: SimulatedInstance): Promise<void>;
  end(by: SimulatedInstance, ended: SimulatedInstance): Promise<void>;
  /** Its machine is paused, and its clock with it. */
  suspendClock(instance: SimulatedInstance, durationMs: number): void;
  /** Messages to it wait until it goes on. */
  freeze(instance: SimulatedInstance): void;
  thaw(instance: SimulatedInstance): Promise<void>;
  isFrozen(instance: SimulatedInstance): boolean;
  wasSuspended(instance: SimulatedInstance): boolean;
  fateOf(instanceId: string): Fate;
  saw(situation: Situation): void;
  cut(instance: SimulatedInstance, outage: Outage): void;
  mend(instance: SimulatedInstance): void;
  /** The database is away for everyone, those that start meanwhile included. */
  cutAll(): void;
  mendAll(): void;
  login(instance: SimulatedInstance): Promise<void>;
  beat(instance: SimulatedInstance): Promise<void>;
  /** Every live instance goes on meanwhile, but for those that are frozen. */
  advance(durationMs: number): Promise<void>;
  /** Time passes while statements are under way. */
  pass(durationMs: number): Promise<void>;
  /** The database is restored from a backup made before the newest so many keys, and without the tokens since. */
  loseNewestRows(count: number): Promise<void>;
  /** How many statements wait for a lock. */
  countBlocked(): Promise<number>;
}

export interface SimulatedFleetOptions {
  readonly settings: FleetSettings;
  readonly latencyMs: number;
  readonly pool: Pool;
  readonly time: VirtualTime;
  readonly secrets: FleetSecrets;
  readonly account: Account;
  /** From 0 to 1, each time another: where a moment is not the plan's to choose. */
  random(): number;
  saw(situation: Situation): void;
  /** Called whenever time has passed, and whenever the instances have had their turn. */
  onMoment(): void;
  onIssued(instance: SimulatedInstance, before: BeforeLogin): void;
  onNotIssued(instance: SimulatedInstance, before: BeforeLogin): void;
}

const coarseSteps = 8;
const atOnce: Outage = { afterStatements: 0, answerLost: false };

export function createSimulatedFleet(options: SimulatedFleetOptions): SimulatedFleet {
  const { settings, time, pool, random } = options;
  const { syncIntervalMs } = settings;
  const toleranceMs = 2 * options.latencyMs + 1;
  const record = createFleetRecord();
  const direct = time.wrap(pool as Queryable);
  const office = createLoanOffice();
  const all: SimulatedInstance[] = [];
  const dead = new Map<SimulatedInstance, Fate>();
  const suspended = new Set<SimulatedInstance>();
  const frozen = new Set<SimulatedInstance>();
  const story: string[] = [];
  let databaseIsAway = false;
  const startedAtMs = time.nowMs();

  const tell = (text: string) =>
    story.push(`${((time.nowMs() - startedAtMs) / 1000).toFixed(3).padStart(12)} s  ${text}`);
  const live = () => all.filter((instance) => !dead.has(instance));

  async function beat(instance: SimulatedInstance): Promise<void> {
    if (!dead.has(instance)) await instance.beat();
  }

  async function turn(durationMs: number): Promise<void> {
    time.pass(durationMs);
    options.onMoment();
    const running = live().filter((instance) => !frozen.has(instance));
    if (random() < 0.5) running.reverse();
    for (const instance of running) await beat(instance);
    options.onMoment();
  }

  function cut(instance: SimulatedInstance, outage: Outage): void {
    const lost = outage.answerLost ? ", the next answer is lost" : "";
    tell(`#${instance.number} is cut off after ${outage.afterStatements} statements${lost}`);
    instance.link.cut(outage);
  }

  function mend(instance: SimulatedInstance): void {
    tell(`#${instance.number} can reach the database`);
    instance.link.mend();
  }

  return {
    settings,
    record,
    toleranceMs,
    story: () => story.join("\n"),
    tell,
    nowMs: () => time.nowMs(),
    live,
    all: () => all,
    async start(jitter, slowMs) {
      const number = all.length + 1;
      const id = createInstanceId();
      const link = createDatabaseLink({
        pool,
        time,
        latencyMs: () => options.latencyMs * random(),
        onCommitted: (text, values, result) => record.onCommitted(text, values, result, time.nowMs()),
        onAnswered: (text, values) => record.onAnswered(text, values, time.nowMs()),
      });
      const instance = createSimulatedInstance({
        ...options,
        office,
        number,
        id,
        link,
        jitter,
        toleranceMs,
        monotonic: time.createMonotonicClock(random() * 1e9),
        nextOrder: record.nextOrder,
        onRestored(rows) {
          if (rows > 0) options.saw("rows that a restored backup lacks were put back");
          tell(`#${number} put ${rows} rows back`);
        },
        onLoan(outcome, lenderId) {
          if (outcome === "unanswered") {
            options.saw("a lender did not answer");
            record.onUnanswered(id, lenderId, time.nowMs());
          }
          tell(`#${number} asked for a signature: ${outcome}`);
        },
        onPublished(kid) {
          record.onHeld(kid, time.nowMs());
          tell(`#${number} knows that ${record.keyName(kid)} is published`);
        },
      });
      all.push(instance);
      tell(`#${number} starts${slowMs > 0 ? `, and its first commit takes ${slowMs} ms` : ""}`);
      if (databaseIsAway) cut(instance, atOnce);
      const commit = link.slowNextCommit();
      const started = beat(instance);
      await Promise.race([started, commit.held]);
      time.pass(slowMs);
      commit.release();
      await started;
    },
    kill(instance) {
      dead.set(instance, "killed");
      office.close(instance.id);
      tell(`#${instance.number} is killed`);
    },
    async stop(instance) {
      tell(`#${instance.number} stops`);
      record.leaving.add(instance.id);
      await instance.stop();
      dead.set(instance, "stopped");
      office.close(instance.id);
      await record.readRows(direct);
    },
    async end(by, ended) {
      tell(`#${by.number} ends the row of #${ended.number}`);
      record.leaving.add(ended.id);
      await by.end(ended.id);
      await record.readRows(direct);
    },
    suspendClock(instance, durationMs) {
      suspended.add(instance);
      instance.monotonic.suspend(durationMs);
      tell(`the clock of #${instance.number} stops for ${durationMs} ms`);
    },
    freeze(instance) {
      frozen.add(instance);
      office.freeze(instance.id);
    },
    async thaw(instance) {
      frozen.delete(instance);
      await office.thaw(instance.id);
    },
    isFrozen: (instance) => frozen.has(instance),
    fateOf: (instanceId) => [...dead].find(([{ id }]) => id === instanceId)?.[1] ?? "live",
    saw: options.saw,
    wasSuspended: (instance) => suspended.has(instance),
    cut,
    mend,
    cutAll() {
      databaseIsAway = true;
      for (const instance of live()) cut(instance, atOnce);
    },
    mendAll() {
      databaseIsAway = false;
      live().forEach(mend);
    },
    async login(instance) {
      const atMs = time.nowMs();
      const aloneBefore = !record.isAnotherAlive(instance.id, atMs);
      const lenders = lendersFor({ record, settings, toleranceMs, nowMs: () => atMs }, instance);
      const known = new Set([...record.publications.keys()].filter((kid) => knows(record, instance, kid)));
      const before = { atMs, lenders, known };
      const login = await instance.login();
      if (login === undefined) {
        tell(`#${instance.number} issues nothing`);
        options.onNotIssued(instance, { ...before, mayBeAlone: aloneBefore });
        return;
      }
      const { token, issuedAtMs } = login;
      const { kid = "" } = decodeProtectedHeader(token);
      const expMs = (decodeJwt(token).exp ?? Number.NaN) * 1000;
      record.tokens.push({ token, kid, expMs, issuedAtMs, instanceId: instance.id });
      tell(`#${instance.number} issued a token under ${record.keyName(kid)}`);
      const mayBeAlone = aloneBefore || !record.isAnotherAlive(instance.id, issuedAtMs + 2);
      options.onIssued(instance, { ...before, mayBeAlone });
      const keys = jwksText(instance.directory.snapshot().keys);
      const verified = await compactVerify(token, createLocalJWKSet(JSON.parse(keys)));
      expect(verified.protectedHeader.kid).toBe(kid);
    },
    beat,
    async advance(durationMs) {
      tell(
        `${durationMs.toFixed(3)} ms pass${[...frozen].map(({ number }) => `, #${number} frozen`).join()}`,
      );
      const fineMs = 2 * syncIntervalMs;
      const coarseMs = Math.max(syncIntervalMs, (durationMs - fineMs) / coarseSteps);
      for (let leftMs = durationMs; leftMs > 0; ) {
        const stepMs =
          leftMs > fineMs
            ? Math.min(coarseMs, leftMs - fineMs)
            : Math.min(leftMs, syncIntervalMs * (0.9 + random() / 5));
        await turn(stepMs);
        leftMs -= stepMs;
      }
    },
    async pass(durationMs) {
      time.pass(durationMs);
      await direct.query("select");
      options.onMoment();
    },
    async loseNewestRows(count) {
      const newest = [...record.publications.values()].slice(-count);
      if (newest.length === 0) return;
      tell(`a restored backup lacks ${newest.map(({ name }) => name).join(", ")}`);
      for (const { kid } of newest) {
        if (record.lost.has(kid)) continue;
        const knowing = live().filter((instance) => knows(record, instance, kid));
        record.lost.set(kid, new Set(knowing.map(({ id }) => id)));
      }
      await restoreBackup(pool, newest, time.nowMs());
    },
    async countBlocked() {
      const { rows } = await pool.query<{ blocked: number }>(
        `select count(*) as blocked from pg_stat_activity
         where datname = current_database() and wait_event_type = 'Lock'`,
      );
      return rows[0]?.blocked ?? 0;
    },
  };
}
