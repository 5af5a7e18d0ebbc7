/** An instance put together as `join-fleet.ts` and `app.ts` do, but for its timers: a test moves it on, beat by beat. */

import { randomUUID } from "node:crypto";
import type { Account } from "../../src/accounts/account.ts";
import { createFleetClock, type FleetClock } from "../../src/clock.ts";
import { Refusal } from "../../src/errors.ts";
import { createFleetSync } from "../../src/fleet/fleet-sync.ts";
import { createHeartbeat } from "../../src/fleet/heartbeat.ts";
import { heartbeatEveryMs } from "../../src/fleet/instance.ts";
import type { FleetSecrets } from "../../src/fleet-secret.ts";
import type { Directory, DirectorySnapshot } from "../../src/keys/directory.ts";
import { createDirectoryFollower } from "../../src/keys/follow-directory.ts";
import { createKeyRing, type KeyRing } from "../../src/keys/key-ring.ts";
import { createKeyRotation } from "../../src/keys/key-rotation.ts";
import type { PeriodSchedule } from "../../src/keys/period-schedule.ts";
import { createFleetStateReader } from "../../src/postgres/fleet-state.ts";
import { createInstanceStore } from "../../src/postgres/instances.ts";
import { createSessionStore } from "../../src/postgres/sessions.ts";
import { createPublishedKeyStore } from "../../src/postgres/signing-keys.ts";
import { createStartSession } from "../../src/sessions/start-session.ts";
import type { LoanOutcome } from "../../src/tokens/borrow-signature.ts";
import { createTokenIssuer } from "../../src/tokens/issuing.ts";
import type { VirtualMonotonicClock, VirtualTime } from "../support/virtual-time.ts";
import { DatabaseAway, type DatabaseLink } from "./database-link.ts";
import { createSimulatedLoans, type LoanOffice } from "./simulated-loans.ts";

/** Durations in milliseconds. */
export interface FleetSettings {
  readonly schedule: PeriodSchedule;
  readonly propagationDelayMs: number;
  readonly syncIntervalMs: number;
  readonly accessTokenTtlMs: number;
  readonly verifyGraceMs: number;
  readonly maxSigners: number;
}

export interface SimulatedInstanceOptions {
  readonly number: number;
  readonly id: string;
  readonly settings: FleetSettings;
  readonly jitter: number;
  readonly time: VirtualTime;
  readonly monotonic: VirtualMonotonicClock;
  readonly link: DatabaseLink;
  readonly secrets: FleetSecrets;
  readonly account: Account;
  readonly office: LoanOffice;
  /** How far an estimate of the database's clock may be off. */
  readonly toleranceMs: number;
  nextOrder(): number;
  onPublished(kid: string): void;
  onRestored(rows: number): void;
  onLoan(outcome: LoanOutcome, lenderId: string): void;
}

export interface Login {
  readonly token: string;
  readonly issuedAtMs: number;
}

export interface SimulatedInstance {
  readonly number: number;
  readonly id: string;
  readonly link: DatabaseLink;
  readonly monotonic: VirtualMonotonicClock;
  readonly clock: FleetClock;
  readonly directory: Directory;
  readonly ring: KeyRing;
  /** The last complete reading of the fleet's state: when it began, and in the order of all that happened. */
  lastSync(): { readonly order: number; readonly atMs: number };
  /** Whether its first keys are published. */
  hasStarted(): boolean;
  /** Whether others publish keys, and it borrows their signatures. */
  isPlaceless(): boolean;
  /** When its key ring's last turn began, where in that and the one before nothing stood in its way. */
  lastGoodTickMs(): number | undefined;
  /** One reading of the fleet's state, and of the keys where they changed. */
  sync(): Promise<void>;
  /** What its timers do, once each. Without the database it does what it can. */
  beat(): Promise<void>;
  /** Undefined where no token can be had right now. */
  login(): Promise<Login | undefined>;
  /** SIGTERM. */
  stop(): Promise<void>;
  /** Ends another instance's row, as whoever finds it dead would. */
  end(instanceId: string): Promise<void>;
}

/** False where the database was away. */
async function reached(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    if (error instanceof DatabaseAway) return false;
    throw error;
  }
}

export function createSimulatedInstance(options: SimulatedInstanceOptions): SimulatedInstance {
  const { id, settings, time, monotonic, link, secrets, account } = options;
  const { verifyGraceMs, accessTokenTtlMs, propagationDelayMs } = settings;
  const clock = createFleetClock(monotonic);
  const store = createPublishedKeyStore(link);
  const keptAfterRetirementMs = accessTokenTtlMs + verifyGraceMs;
  const ring = createKeyRing({ clock, verifyGraceMs, propagationDelayMs });
  const { directory, follow } = createDirectoryFollower({
    clock,
    secrets,
    alg: "EdDSA",
    store,
    onRejected(rejected) {
      if (rejected.length > 0) throw new Error(`rows were rejected: ${JSON.stringify(rejected)}`);
    },
    onRestored: options.onRestored,
  });
  const instances = createInstanceStore(link);
  let lastSnapshot: DirectorySnapshot | undefined;
  const sync = createFleetSync({
    clock,
    monotonic,
    intervalMs: settings.syncIntervalMs,
    readState: createFleetStateReader(link),
    async onState(state) {
      await follow(state);
      if (directory.snapshot() !== lastSnapshot) rotation.lookForPlace();
      lastSnapshot = directory.snapshot();
    },
    onClockEvent(event) {
      const jumpedAhead = event.type === "adopted" && event.byMs > 0;
      if (jumpedAhead) directory.keepKnownKeysUntil(clock.nowMs() + keptAfterRetirementMs);
    },
    onFailure: () => undefined,
  });
  const rotation = createKeyRotation({
    instanceId: id,
    alg: "EdDSA",
    clock,
    secrets,
    ring,
    store,
    settings: { ...settings, keptAfterRetirementMs, jitter: options.jitter },
    maxSigners: settings.maxSigners,
    settleMs: 2 * settings.syncIntervalMs,
    latest(kid) {
      const found = directory.find(kid);
      return found.status === "unknown" ? undefined : found.key;
    },
    // Between runs: a collection for each key would take longer than all the rest.
    collectGarbage: () => undefined,
    onEvent(event) {
      if (event.type === "refused") refusals += 1;
      if (event.type !== "dropped") isPlaceless = event.type === "placeless";
      if (event.type !== "published") return;
      directory.learn([event.key]);
      options.onPublished(event.key.kid);
    },
  });
  const sessionSettings = {
    instanceId: id,
    issuer: "https://id.example",
    propagationDelayMs,
    accessTokenTtlMs,
    verifyGraceMs,
    refreshTokenTtlMs: 3_600_000,
    sessionTtlMs: 3_600_000,
    refreshGraceMs: 10_000,
  };
  const isHearing = () => link.isUp();
  const borrower = createSimulatedLoans({
    ...{ instanceId: id, issuer: sessionSettings.issuer, database: link, office: options.office },
    ...{ time, clock, secrets, ring, directory, propagationDelayMs, isHearing, onLoan: options.onLoan },
  });
  let issuedAtMs = Number.NaN;
  const startSession = createStartSession({
    store: createSessionStore(link, sessionSettings),
    secrets,
    tokens: createTokenIssuer({
      clock,
      signer: ring,
      borrower,
      settings: sessionSettings,
      async isCurrent() {
        if (await sync.isCurrent()) return true;
        await syncOnce().catch(() => undefined);
        return sync.isCurrent();
      },
      onIssued(issued) {
        issuedAtMs = issued.issuedAtMs;
      },
    }),
    settings: sessionSettings,
  });

  const self = { id, host: "simulated", processId: options.number };
  const heart = createHeartbeat({ instance: self, store: instances, isListening: isHearing });
  let lastSync = { order: 0, atMs: Number.NEGATIVE_INFINITY };
  let goodTicksMs: readonly number[] = [];
  let refusals = 0;
  let isPlaceless = false;
  let lastHeartbeatMs = Number.NEGATIVE_INFINITY;
  let beats = 0;

  async function syncOnce(): Promise<void> {
    const begun = { order: options.nextOrder(), atMs: time.nowMs() };
    await sync.syncOnce();
    lastSync = begun;
  }

  async function tick(): Promise<void> {
    const begunMs = time.nowMs();
    const before = goodTicksMs.slice(-1);
    const refusalsBefore = refusals;
    goodTicksMs = [];
    await rotation.tick();
    const knowsTheTime = Math.abs(clock.nowMs() - time.nowMs()) <= options.toleranceMs;
    if (knowsTheTime && refusals === refusalsBefore) goodTicksMs = [...before, begunMs];
  }

  async function heartbeat(): Promise<void> {
    if (time.nowMs() - lastHeartbeatMs < heartbeatEveryMs) return;
    await heart.beat();
    lastHeartbeatMs = time.nowMs();
  }

  /** As `background.ts` does: each step is tried until it works, before the next. */
  const steps = [
    () => instances.register(self),
    async () => {
      await syncOnce();
      await syncOnce();
    },
    tick,
  ];
  let stepsDone = 0;

  return {
    number: options.number,
    id,
    link,
    monotonic,
    clock,
    directory,
    ring,
    lastSync: () => lastSync,
    hasStarted: () => stepsDone === steps.length,
    // A turn may go into finding out that a publication, whose answer was lost, had worked.
    lastGoodTickMs: () => goodTicksMs[1],
    isPlaceless: () => isPlaceless,
    async sync() {
      await reached(syncOnce());
    },
    async beat() {
      for (let step = steps[stepsDone]; step !== undefined; step = steps[stepsDone]) {
        if (!(await reached(step()))) return;
        stepsDone += 1;
      }
      beats += 1;
      // The timers do not know of each other: either may come first.
      for (const work of beats % 2 === 0 ? [tick, syncOnce] : [syncOnce, tick]) await reached(work());
      await reached(heartbeat());
    },
    async login() {
      try {
        const { access_token: token } = await startSession({
          account,
          clientId: "first-party",
          audience: "https://api.example",
          scopes: account.scopes,
          origin: { address: "192.0.2.1", addressBlock: "192.0.2.1", userAgent: "" },
        });
        return { token, issuedAtMs };
      } catch (error) {
        if (error instanceof DatabaseAway || error instanceof Refusal) return undefined;
        throw error;
      }
    },
    async stop() {
      await rotation.stop();
      if (await reached(heart.beat())) await reached(instances.stop(id));
      ring.dropAll();
    },
    async end(instanceId) {
      await reached(instances.stop(instanceId));
    },
  };
}

export function createInstanceId(): string {
  return randomUUID();
}
