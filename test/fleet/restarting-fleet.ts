/** Three real instances on one database, each of which can be killed, and is then replaced by another. */

import { randomUUID } from "node:crypto";
import { eventually } from "../support/accounts.ts";
import type { TestDatabase } from "../support/database.ts";
import { type Settings, startInstance, type TestInstance } from "../support/instance.ts";

export interface FleetMember {
  readonly url: string;
  readonly isAlive: boolean;
}

export interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  /** How many requests got no answer before this one did: each may have had its effect. */
  readonly lost: number;
}

export interface RestartingFleet {
  /** Of the slot, or of the next one that is not being replaced. */
  member(slot: number): FleetMember;
  /** Kills the instance, in the middle of whatever it does, and starts another; false where one is down already. */
  crash(slot: number): boolean;
  /** Posts until there is an answer, as a client would: to another instance where one dies or is overloaded. */
  post(slot: number, path: string, init: { headers?: Record<string, string>; body: string }): Promise<Answer>;
  /** Resolves when nothing that this instance has been sent can have an effect any more. */
  settle(member: FleetMember): Promise<void>;
  close(): Promise<void>;
}

interface Member extends FleetMember {
  /** Its database connections' name. */
  readonly name: string;
  readonly instance: TestInstance;
  isAlive: boolean;
}

export async function startRestartingFleet(
  database: TestDatabase,
  settings: Settings,
): Promise<RestartingFleet> {
  const started: TestInstance[] = [];
  const replacements: Promise<unknown>[] = [];
  let isClosed = false;

  async function start(): Promise<Member> {
    const name = randomUUID();
    const url = new URL(database.url);
    url.searchParams.set("application_name", name);
    const instance = await startInstance({ databaseUrl: url.href, settings });
    started.push(instance);
    return { name, instance, url: instance.url, isAlive: true };
  }

  async function close(): Promise<void> {
    isClosed = true;
    const failures = (await Promise.all(replacements)).filter((failure) => failure !== undefined);
    await Promise.all(started.map((instance) => instance.stop("SIGKILL")));
    if (failures.length > 0) throw new AggregateError(failures, "instances were not replaced");
  }

  const firstThree = await Promise.allSettled([start(), start(), start()]);
  const members = firstThree.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  if (members.length < 3) {
    await close();
    throw new Error("the instances did not start", { cause: firstThree });
  }

  function member(slot: number): Member {
    const [first, second, third] = [0, 1, 2].map((offset) => members[(slot + offset) % 3]);
    const alive = [first, second, third].find((candidate) => candidate?.isAlive);
    if (alive === undefined) throw new Error("no instance is alive");
    return alive;
  }

  async function replace(slot: number, killed: Member): Promise<void> {
    await killed.instance.stop("SIGKILL");
    members[slot % 3] = await start();
  }

  async function settle(asked: FleetMember): Promise<void> {
    const { name } = members.find((candidate) => candidate === asked) ?? (asked as Member);
    // Read after everything that was sent before.
    if (asked.isAlive) await fetch(`${asked.url}/healthz`).catch(() => undefined);
    const { rows } = await database.pool.query<{ now: Date }>("select clock_timestamp() as now");
    await eventually(async () => {
      const { rows: busy } = await database.pool.query(
        `select from pg_stat_activity where application_name = $1
           and (not $2 or state = 'active' and query_start < $3)`,
        [name, asked.isAlive, rows[0]?.now],
      );
      return busy.length === 0;
    });
  }

  return {
    member,
    settle,
    crash(slot) {
      const killed = members[slot % 3];
      if (isClosed || killed === undefined || !members.every(({ isAlive }) => isAlive)) return false;
      killed.isAlive = false;
      // Where it fails, the fleet is one short, and close() says so.
      replacements.push(replace(slot, killed).catch((error: unknown) => error));
      return true;
    },
    async post(slot, path, init) {
      for (let lost = 0; lost < 20; lost += 1) {
        const asked = member(slot + lost);
        const got = await send(asked.url + path, { ...init, method: "POST" });
        if (got !== undefined && got.status !== 503) {
          const body = got.text === "" ? {} : (JSON.parse(got.text) as Record<string, unknown>);
          return { status: got.status, body, lost };
        }
        await settle(asked);
      }
      throw new Error(`${path} is not answered`);
    },
    close,
  };
}

/** Undefined where the connection breaks. */
async function send(url: string, init: RequestInit): Promise<{ status: number; text: string } | undefined> {
  try {
    const response = await fetch(url, init);
    return { status: response.status, text: await response.text() };
  } catch {
    return undefined;
  }
}
