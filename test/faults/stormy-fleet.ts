/** Instances that may be started, ended, stopped and cut off at any moment, and when each of them was hindered by what. */

import { type Settings, startInstance, type TestInstance } from "../support/instance.ts";
import { type StatementProxy, startStatementProxy } from "../support/statement-proxy.ts";
import { type ProxyMode, startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";
import { cutForMs, type Hindrance, type HindranceKind, overlapping, wasCutOff } from "./hindrances.ts";
import { additions, buildLaterRelease, type LaterRelease } from "./later-release.ts";
import type { Trait } from "./variety.ts";

/** One instance, with proxies to the database of its own. Times by `Date.now()`. */
export interface Member {
  readonly name: string;
  readonly traits: readonly string[];
  readonly instance: TestInstance;
  readonly startedAtMs: number;
  /** `leaving`: it was sent SIGTERM, and may linger. */
  state: "serving" | "leaving" | "gone";
  /** A fault is under way here: another has to choose another member. */
  busy: boolean;
  instanceId(): string;
  setNetwork(mode: ProxyMode): void;
  cutConnections(): void;
  setDelay: TcpProxy["setDelay"];
  /** Notifications alone. */
  setNotifications(mode: ProxyMode): void;
  readonly strikeAt: StatementProxy["strikeAt"];
  hinder(kind: HindranceKind): () => void;
  /** Whether nothing hindered it in all that time; and it was there. */
  wasFit(fromMs: number, toMs: number, kinds?: readonly HindranceKind[]): boolean;
  /** Infinite while it has not. */
  endedAtMs: number;
  cutForMs(fromMs: number, toMs: number): number;
  wasCutOff(fromMs: number, toMs: number): boolean;
}

export interface StormyFleet {
  /** All that ever were. */
  readonly members: readonly Member[];
  serving(): readonly Member[];
  /** Resolves when it can issue, and takes part from then on. */
  start(): Promise<Member>;
  /** As `start`; it and whoever starts after it are of the release that comes next, of which there is one. */
  startLaterRelease(): Promise<Member>;
  /** Resolves when the process has ended. */
  terminate(member: Member): Promise<void>;
  kill(member: Member): Promise<void>;
  pause(member: Member, forMs: number): Promise<void>;
  close(): Promise<void>;
}

const pauseMs = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

export function createStormyFleet(options: {
  readonly databaseUrl: string;
  readonly settings: Settings;
  tell(what: string): void;
  /** Of the instance of that number, counted from 1; none where it is not given. */
  readonly traitsOf?: (number: number) => readonly Trait[];
}): StormyFleet {
  const { databaseUrl, settings, tell, traitsOf = () => [] } = options;
  const members: Member[] = [];
  const proxies: { close(): Promise<void> }[] = [];
  let release: LaterRelease | undefined;
  const starting = new Set<Promise<unknown>>();
  let count = 0;
  let closed = false;

  async function startMember(): Promise<Member> {
    count += 1;
    const name = `#${count}`;
    const startedAtMs = Date.now();
    const given = traitsOf(count);
    const traits = given.map((trait) => trait.name);
    tell(`start ${name} ${traits.join(", ")}`);
    const itsDatabaseUrl = given.find((trait) => trait.databaseUrl !== undefined)?.databaseUrl ?? databaseUrl;
    const statementProxy = await startStatementProxy(itsDatabaseUrl);
    const [proxy, listenProxy] = await Promise.all([
      startTcpProxy(statementProxy.url),
      startTcpProxy(databaseUrl),
    ]);
    proxies.push(statementProxy, proxy, listenProxy);
    const instance = await startInstance({
      databaseUrl: proxy.url,
      settings: { DATABASE_LISTEN_URL: listenProxy.url, ...settings },
      nodeFlags: given.flatMap(({ nodeFlags = [] }) => nodeFlags),
      ...(release === undefined ? {} : { program: release.program }),
    });
    const { strikeAt } = statementProxy;
    const member = createMember({ name, traits, instance, startedAtMs, strikeAt, proxy, listenProxy });
    if (closed) await instance.stop("SIGKILL");
    else members.push(member);
    tell(`${name} is ready ${Date.now() - startedAtMs} ms after its start`);
    return member;
  }

  function start(): Promise<Member> {
    const started = startMember();
    starting.add(started);
    started.finally(() => starting.delete(started)).catch(() => undefined);
    return started;
  }

  function ended(member: Member): void {
    member.hinder("cut");
    member.endedAtMs = Date.now();
  }

  async function end(member: Member, signal: NodeJS.Signals, state: Member["state"]): Promise<void> {
    const beganMs = Date.now();
    tell(`${signal} to ${member.name}`);
    member.state = state;
    if (signal === "SIGKILL") ended(member);
    const code = await member.instance.stop(signal);
    if (signal !== "SIGKILL") ended(member);
    member.state = "gone";
    tell(`${member.name} has ended with ${code} after ${Date.now() - beganMs} ms`);
  }

  return {
    members,
    serving: () => members.filter(({ state }) => state === "serving"),
    start,
    startLaterRelease() {
      release ??= buildLaterRelease(additions);
      return start();
    },
    terminate: (member) => end(member, "SIGTERM", "leaving"),
    kill: (member) => end(member, "SIGKILL", "gone"),
    async pause(member, forMs) {
      tell(`SIGSTOP to ${member.name} for ${Math.round(forMs)} ms`);
      const release = member.hinder("cut");
      member.instance.process.kill("SIGSTOP");
      await pauseMs(forMs);
      member.instance.process.kill("SIGCONT");
      release();
    },
    async close() {
      closed = true;
      await Promise.all(
        members.map(({ instance }) => {
          instance.process.kill("SIGCONT");
          return instance.stop("SIGKILL");
        }),
      );
      // Those that still wait for a database find it, become ready, and are ended by their start.
      await Promise.allSettled(starting);
      await Promise.all(proxies.map((proxy) => proxy.close()));
      release?.remove();
    },
  };
}

function createMember(options: {
  readonly name: string;
  readonly traits: readonly string[];
  readonly instance: TestInstance;
  readonly startedAtMs: number;
  readonly strikeAt: StatementProxy["strikeAt"];
  readonly proxy: TcpProxy;
  readonly listenProxy: TcpProxy;
}): Member {
  const { name, traits, instance, startedAtMs, strikeAt, proxy, listenProxy } = options;
  const readyAtMs = Date.now();
  const hindrances: Hindrance[] = [];
  return {
    name,
    traits,
    instance,
    startedAtMs,
    strikeAt,
    state: "serving",
    busy: false,
    endedAtMs: Number.POSITIVE_INFINITY,
    instanceId: () => instance.instanceId,
    setNetwork(mode) {
      proxy.setMode(mode);
      listenProxy.setMode(mode);
    },
    cutConnections() {
      proxy.cut();
      listenProxy.cut();
    },
    setDelay(ofPacketMs) {
      proxy.setDelay(ofPacketMs);
      listenProxy.setDelay(ofPacketMs);
    },
    setNotifications: (mode) => listenProxy.setMode(mode),
    hinder(kind) {
      const hindrance: Hindrance = { kind, fromMs: Date.now(), toMs: Number.POSITIVE_INFINITY };
      hindrances.push(hindrance);
      return () => {
        hindrance.toMs = Date.now();
      };
    },
    wasFit: (fromMs, toMs, kinds = ["cut", "slow"]) =>
      fromMs >= readyAtMs && overlapping(hindrances, fromMs, toMs, kinds).length === 0,
    cutForMs: (fromMs, toMs) => cutForMs(hindrances, fromMs, toMs),
    wasCutOff: (fromMs, toMs) => wasCutOff(hindrances, fromMs, toMs),
  };
}
