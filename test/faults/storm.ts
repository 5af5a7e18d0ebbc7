/** A fleet, people and consumers put together, on which faults can be let loose; and what is said of it at the end. */

import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { createVerifier } from "../../src/verifier/verifier.ts";
import { alice, eventually, manageAccounts, postLogin } from "../support/accounts.ts";
import { readMetric, type Settings } from "../support/instance.ts";
import { documentedParameters, pgbouncer, startPooler } from "../support/pooler.ts";
import { createChecks, maxStalenessMs, ourVerifier } from "./checks.ts";
import type { ForeignKind } from "./consumers/foreign-consumers.ts";
import { type Consumer, type ConsumerOptions, createConsumers, describeConsumer } from "./consumers.ts";
import { createFaults, type Faults } from "./faults.ts";
import { type Front, startFront } from "./front.ts";
import { createJudge } from "./judge.ts";
import { createLedger, type Ledger, violationKinds } from "./ledger.ts";
import { startForeign } from "./population.ts";
import { watchProcessorWaits } from "./processor-waits.ts";
import { createSeededRandom, type SeededRandom } from "./seeded-random.ts";
import { createSignatureWatch } from "./signature-watch.ts";
import { type StormDatabase, startStormDatabase } from "./storm-database.ts";
import { startStormPeople } from "./storm-people.ts";
import { createStormyFleet, type StormyFleet } from "./stormy-fleet.ts";
import { traitsOf } from "./variety.ts";

export interface StormOptions extends Omit<ConsumerOptions, "issuer"> {
  readonly seed: number;
  readonly instances: number;
  readonly people: number;
  readonly propagationDelayMs: number;
  readonly settings: Settings;
  /** Of other languages, as each is by default. */
  readonly foreign?: readonly ForeignKind[];
  /** Clocks that are wrong, and ways to the database through pgbouncer, where it is there. */
  readonly variety?: boolean;
}

export interface Storm {
  readonly fleet: StormyFleet;
  readonly faults: Faults;
  readonly front: Front;
  readonly ledger: Ledger;
  readonly random: SeededRandom;
  readonly database: StormDatabase;
  /** Their names, as the ledger counts by them. */
  readonly consumers: readonly string[];
  /** The last checks of everything, and the report. */
  finish(): Promise<string>;
  close(): Promise<void>;
}

/** Resolves when the first instances are mature, and people and consumers are at work. */
export async function startStorm(options: StormOptions): Promise<Storm> {
  const { seed, propagationDelayMs } = options;
  const random = createSeededRandom(seed);
  const ledger = createLedger();
  const [database, front] = await Promise.all([startStormDatabase(), startFront()]);
  const settings: Settings = {
    ISSUER: front.url,
    KEY_PROPAGATION_DELAY: `${propagationDelayMs}ms`,
    LOGIN_ATTEMPTS: "10000",
    // Longer than people are patient: that a session ends when its refresh is repeated too late is no loss.
    REFRESH_GRACE: "10m",
    ...options.settings,
  };
  const pooler =
    options.variety && pgbouncer !== undefined
      ? await startPooler(database.url, documentedParameters)
      : undefined;
  const fleet = createStormyFleet({
    ...{ databaseUrl: database.url, settings, tell: ledger.tell },
    traitsOf: (number) => (options.variety ? traitsOf(number, pooler?.url) : []),
  });
  front.setMembers(fleet.serving);
  const closing: (() => void | Promise<void>)[] = [];
  const close = async () => {
    for (const end of closing) await end();
    await fleet.close();
    await front.close();
    await pooler?.close();
    await database.close();
  };
  try {
    await Promise.all(Array.from({ length: options.instances }, () => fleet.start()));
    await manageAccounts(database.url, (accounts) => accounts.add(alice.username, alice.password, []));
    await untilMature(fleet, propagationDelayMs);
    ledger.tell("the first signers are mature");
    const consumers = [
      ...(await createConsumers({ ...options, issuer: front.url })),
      ...startForeign(options.foreign ?? [], front.url),
    ];
    closing.push(async () => void (await Promise.all(consumers.map((consumer) => consumer.close()))));
    const revocation = { maxStaleness: `${maxStalenessMs}ms`, whenStale: "reject" } as const;
    const verifier = createVerifier({ issuer: front.url, audience: front.url, revocation });
    closing.push(() => verifier.close());
    await verifier.ready();
    const waits = watchProcessorWaits(() => [
      process.pid,
      ...fleet.serving().map(({ instance }) => instance.process.pid),
    ]);
    closing.push(waits.close);
    const judge = createJudge({ database, front, propagationDelayMs });
    const checks = createChecks({
      consumers,
      verifier,
      front,
      fleet,
      ledger,
      random: createSeededRandom(seed + 1),
      judge,
      waits,
    });
    const watchSignatures = createSignatureWatch({ database, fleet, ledger, propagationDelayMs });
    const people = await startStormPeople({
      ...{ database, fleet, ledger, people: options.people, pauseMs: 250 },
      random: createSeededRandom(seed + 2),
      onToken: checks.check,
    });
    const watch = setInterval(() => void watchSignatures().catch(() => undefined), 20_000);
    closing.push(people.abandon, checks.abandon, () => clearInterval(watch));
    return {
      ...{ fleet, front, ledger, random, database, close },
      faults: createFaults({ database, fleet, ledger, random: createSeededRandom(seed + 3) }),
      consumers: [...consumers.map(({ name }) => name), ourVerifier.name],
      async finish() {
        ledger.tell("the last checks");
        await people.stop();
        await checks.stop();
        clearInterval(watch);
        await pause(2000);
        await watchSignatures();
        return report(seed, consumers, ledger);
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A login at any of them is signed with a mature key. */
async function untilMature(fleet: StormyFleet, propagationDelayMs: number): Promise<void> {
  const mature = 'keyfleet_access_tokens_issued_total{key="mature"}';
  await eventually(async () => {
    for (const { instance } of fleet.serving()) {
      await pause(100);
      // Answered 503 while those who could lend have not said yet that they hear.
      await postLogin(instance.url);
      if ((await readMetric(instance, mature)) === 0) return false;
    }
    return true;
  }, propagationDelayMs + 60_000);
}

function report(seed: number, consumers: readonly Consumer[], ledger: Ledger): string {
  return [
    `seed ${seed}`,
    ...consumers.map(describeConsumer),
    ...[...ledger.counts()]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([what, count]) => `${what}: ${Math.round(count)}`),
    ...[...ledger.longest()].map(([what, ms]) => `${what}: ${Math.round(ms)} ms at most`),
    ...violationKinds.map((kind) => `VIOLATIONS, ${kind}: ${ledger.violationCount(kind)}`),
  ].join("\n");
}

/** For who has to find out what happened: the story, and what each instance said. Returns the folder. */
export async function writeStory({ ledger, fleet }: Storm): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "keyfleet-story-"));
  await writeFile(path.join(folder, "story.txt"), ledger.story.join("\n"));
  for (const { name, instance } of fleet.members)
    await writeFile(path.join(folder, `instance${name}.log`), `${instance.instanceId}\n${instance.output()}`);
  return folder;
}
