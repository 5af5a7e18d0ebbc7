/** An instance's part in the fleet: its keys, its view of everybody's, and what keeps both going. */

import { createBackground } from "./background.ts";
import { type ClockEvent, createFleetClock, type FleetClock, monotonicClock, secondMs } from "./clock.ts";
import type { Config } from "./config.ts";
import { createEpochGuard } from "./fleet/epoch-guard.ts";
import { createFleetSync, type FleetState, type FleetSync } from "./fleet/fleet-sync.ts";
import { createHeartbeat } from "./fleet/heartbeat.ts";
import { createInstance } from "./fleet/instance.ts";
import { linger } from "./fleet/linger.ts";
import type { FleetSecrets } from "./fleet-secret.ts";
import type { Directory, DirectorySnapshot } from "./keys/directory.ts";
import { createDirectoryFollower } from "./keys/follow-directory.ts";
import { jwksText } from "./keys/jwks-document.ts";
import { createKeyRing, type KeyRing } from "./keys/key-ring.ts";
import { createKeyRotation } from "./keys/key-rotation.ts";
import { createGarbageCollector } from "./keys/secure-heap.ts";
import type { Logger } from "./logger.ts";
import type { Metrics } from "./metrics.ts";
import { createFleetStateReader } from "./postgres/fleet-state.ts";
import { createInstanceStore } from "./postgres/instances.ts";
import { startListening } from "./postgres/listen.ts";
import { migrate } from "./postgres/migrate.ts";
import { createPool, endPool, type Pool, servingTimeouts } from "./postgres/pool.ts";
import { prune } from "./postgres/prune.ts";
import { createRevocationStore } from "./postgres/revocations.ts";
import { loanChannel } from "./postgres/signature-loans.ts";
import { createSigningChoice } from "./postgres/signing-choice.ts";
import { createPublishedKeyStore, type KeyAdministrationStore } from "./postgres/signing-keys.ts";
import {
  createClockReporter,
  createDirectorySizeReporter,
  createFleetReporter,
  createKeyReporter,
  createRejectionReporter,
  createSyncReporter,
} from "./report.ts";
import { createRevocationLog, type RevocationLog } from "./revocation/revocation-log.ts";
import { createSignatureLoans, type SignatureLoans } from "./signature-loans.ts";
import { createIssueCheck } from "./tokens/issue-check.ts";

export interface FleetOptions {
  readonly config: Config;
  readonly databaseUrl: string;
  /** Straight to Postgres, not through a transaction pooler. */
  readonly databaseListenUrl: string;
  readonly secrets: FleetSecrets;
  readonly logger: Logger;
}

export interface FleetMembership {
  readonly loans: SignatureLoans;
  readonly pool: Pool;
  readonly clock: FleetClock;
  readonly sync: FleetSync;
  readonly ring: KeyRing;
  readonly directory: Directory;
  readonly revocations: RevocationLog;
  readonly keys: KeyAdministrationStore;
  readonly instanceId: string;
  /** Resolves when this instance can issue tokens; retries until the database is there. */
  start(): Promise<void>;
  /** Whether a token could be issued, were the database there: by a key of its own, or by another's signature. */
  canIssue(): Promise<boolean>;
  /** Finds out whether the database has gone back in time, and has another epoch begin where it has. */
  confirmRecords(): Promise<void>;
  /** Resolves where another process was seen under this instance's id: it has to end, and another to begin. */
  readonly ended: Promise<void>;
  refreshGauges(): void;
  /** Publishes no more keys, and lends for so long, or until the fleet can do without. Never throws. */
  linger(durationMs: number): Promise<void>;
  /** Retires the keys, in the database and in memory. Never throws. */
  stop(): Promise<void>;
}

const poolSize = 10;

export function joinFleet(options: FleetOptions, issuer: string, metrics: Metrics): FleetMembership {
  const { config, logger, secrets } = options;
  const instance = createInstance();
  const pool = createPool({
    url: options.databaseUrl,
    max: poolSize,
    timeouts: servingTimeouts,
    onError() {
      metrics.databaseErrors.inc();
      epochGuard.doubt();
    },
  });
  const clock = createFleetClock(monotonicClock);
  const store = createPublishedKeyStore(pool);
  const keptAfterRetirementMs = config.accessTokenTtlMs + config.verifyGraceMs;
  const propagationDelayMs = config.keyPropagationDelayMs;
  const ring = createKeyRing({ clock, verifyGraceMs: config.verifyGraceMs, propagationDelayMs });
  const report = createFleetReporter(logger, metrics);
  const reportKey = createKeyReporter(logger, metrics);
  /** Revoked: nothing is issued here any more. A row that was lost with a restored backup is back with the next beat. */
  let isBarred = false;
  const reportSize = createDirectorySizeReporter(logger, metrics);
  const { directory, follow } = createDirectoryFollower({
    clock,
    secrets,
    alg: config.signingAlg,
    store,
    onRejected: createRejectionReporter(logger, metrics),
    onRestored: report.onRestored,
  });
  const instances = createInstanceStore(pool);
  const heartbeat = createHeartbeat({ instance, store: instances, isListening: () => listener.isHearing() });
  const revocationStore = createRevocationStore(pool);
  const revocations = createRevocationLog({ clock, store: revocationStore });
  const reportClock = createClockReporter(logger, metrics);
  const reportSync = createSyncReporter(logger, metrics);
  const epochGuard = createEpochGuard({
    readState: createFleetStateReader(pool),
    lastSeen: () => revocations.cursor(),
    async confirm(seenNumber, isRegistering) {
      const renewed = await revocationStore.checkEpoch(
        seenNumber,
        instance.id,
        isRegistering,
        heartbeat.lastBeatAtMs(),
      );
      if (renewed) logger.info("a new epoch of the revocation log has begun");
    },
  });
  let lastSnapshot: DirectorySnapshot | undefined;
  const sync = createFleetSync({
    clock,
    monotonic: monotonicClock,
    intervalMs: config.fleetSyncIntervalMs,
    readState: epochGuard.readState,
    async onState(state: FleetState) {
      await Promise.all([follow(state), revocations.follow(state)]);
      reportSync();
      const snapshot = directory.snapshot();
      if (snapshot === lastSnapshot) return;
      lastSnapshot = snapshot;
      reportSize({ keys: snapshot.keys.length, bytes: jwksText(snapshot.keys).length });
      rotation.lookForPlace();
    },
    onClockEvent(event: ClockEvent) {
      const jumpedAhead = event.type === "adopted" && event.byMs > 0;
      if (jumpedAhead) directory.keepKnownKeysUntil(clock.nowMs() + keptAfterRetirementMs);
      reportClock(event);
    },
    onFailure: reportSync,
  });
  const rotation = createKeyRotation({
    instanceId: instance.id,
    alg: config.signingAlg,
    clock,
    secrets,
    ring,
    store,
    settings: {
      schedule: config.schedule,
      propagationDelayMs,
      keptAfterRetirementMs,
      jitter: Math.random(),
    },
    maxSigners: config.maxSigners,
    settleMs: 2 * config.fleetSyncIntervalMs,
    latest(kid) {
      const found = directory.find(kid);
      return found.status === "unknown" ? undefined : found.key;
    },
    collectGarbage: createGarbageCollector(),
    onEvent(event) {
      reportKey(event);
      if (event.type !== "refused" || event.reason !== "instance_ended") return;
      isBarred = true;
      // The answer says why.
      background.beat();
    },
  });
  const loans = createSignatureLoans({
    ...{ config, issuer, instanceId: instance.id, pool, secrets, clock, ring, directory, logger, metrics },
    isHearing: () => listener.isHearing(),
  });
  let onEnded = () => {};
  const ended = new Promise<void>((resolve) => {
    onEnded = resolve;
  });
  const findsKeyToIssue = createIssueCheck({
    ring,
    borrower: loans.borrower,
    monotonic: monotonicClock,
    nowMs: () => Math.round(clock.nowMs()),
    findsKey: createSigningChoice(pool, {
      instanceId: instance.id,
      propagationDelayMs,
      accessTokenTtlMs: config.accessTokenTtlMs,
      verifyGraceMs: config.verifyGraceMs,
    }),
  });
  const canIssue = async () => directory.isLoaded() && !isBarred && (await findsKeyToIssue());
  const background = createBackground({
    instance,
    instances,
    sync,
    rotation,
    heartbeat,
    logger,
    canIssue,
    onLost: report.onLost,
    onBeat(outcome) {
      isBarred = outcome !== "alive";
      // For good: a database that is set back does not know of it before the next beat.
      if (outcome === "revoked") void rotation.stop();
    },
    onEnded(why) {
      report.onEnded(why);
      onEnded();
    },
    async migrate() {
      const applied = await migrate({ url: options.databaseListenUrl });
      if (applied.length > 0) logger.info({ applied }, "migrated the database");
    },
    async prune() {
      for (const [table, rows] of Object.entries(await prune(pool, config.auditRetentionMs))) {
        metrics.prunedRows.inc({ table }, rows);
      }
    },
  });
  const listener = startListening({
    url: options.databaseListenUrl,
    pool,
    channels: ["keyfleet_directory", "keyfleet_revocations", loanChannel(instance.id)],
    onNotification(channel, payload) {
      if (channel === loanChannel(instance.id)) loans.onMessage(payload);
      else sync.poke();
    },
    onConnected() {
      epochGuard.doubt();
      sync.poke();
    },
    onHearing: () => background.beat(),
    onLost(reason) {
      logger.warn({ reason }, "notifications do not arrive: polling alone");
      background.beat();
    },
  });

  async function confirmRecords(): Promise<void> {
    if (epochGuard.isDoubtful()) await sync.syncOnce();
    await heartbeat.beat();
  }

  return {
    pool,
    clock,
    sync,
    ring,
    directory,
    revocations,
    keys: store,
    instanceId: instance.id,
    start: () => background.start(),
    loans,
    canIssue,
    confirmRecords,
    ended,
    refreshGauges() {
      metrics.signer.set(ring.canSign() ? 1 : 0);
      metrics.fleetSyncAge.set(sync.ageMs() / secondMs);
      metrics.revocationEntries.set(revocations.size());
      metrics.revocationAge.set(
        revocations.isLoaded() ? (clock.nowMs() - revocations.asOfMs()) / secondMs : Infinity,
      );
      metrics.clockError.set(clock.errorMs() / secondMs);
      metrics.listening.set(listener.isHearing() ? 1 : 0);
    },
    async linger(durationMs) {
      await rotation.stop();
      await linger({ instances, instanceId: instance.id, propagationDelayMs, durationMs, logger });
    },
    async stop() {
      await background.stop();
      try {
        // Where the records of what the keys signed were lost with a restored backup, that has to be known before they end.
        if (heartbeat.lastBeatAtMs() !== null) await confirmRecords();
        await instances.stop(instance.id);
      } catch (error) {
        logger.warn({ err: error }, "the keys could not be retired: they expire by themselves");
      }
      ring.dropAll();
      await listener.close();
      await endPool(pool);
    },
  };
}
