/** Keeps an instance up with the fleet: reads the one-row state on a beat, sets the clock by it, tells who cares. */

import type { ClockEvent, FleetClock, MonotonicClock } from "../clock.ts";

export interface FleetState {
  /** Postgres's clock, milliseconds since 1970. */
  readonly databaseMs: number;
  /** Rises with every change of any signing key. */
  readonly directoryVersion: number;
  /** Of the last entry of the revocation log, within the epoch. */
  readonly revocationNumber: number;
  readonly epoch: string;
}

export interface FleetSync {
  /** One reading now; throws what the database throws. */
  syncOnce(): Promise<void>;
  start(): void;
  /** Something may have changed: reads at once, or once more after the reading under way. */
  poke(): void;
  /**
   * Whether everything that was there two intervals ago has been read: every key, then, that can have signed (I1). Has
   * it read where it has not, as after the process was stopped, or cut off. Never throws.
   */
  isCurrent(): Promise<boolean>;
  stop(): Promise<void>;
  /** Milliseconds since the last complete reading; infinite before the first. */
  ageMs(): number;
}

export interface FleetSyncOptions {
  readonly clock: FleetClock;
  readonly monotonic: MonotonicClock;
  readonly intervalMs: number;
  readState(): Promise<FleetState>;
  /** Called with every reading, after the clock was set by it; a reading counts once this has resolved. */
  onState(state: FleetState): Promise<void>;
  onClockEvent(event: ClockEvent): void;
  onFailure(error: unknown): void;
}

/** Where a reading took longer than this to fail, another would keep waiting who asks for the same answer. */
const failsSoonMs = 500;

/** A timer drives it for certainty; `poke`, on NOTIFY, only makes it faster. */
export function createFleetSync(options: FleetSyncOptions): FleetSync {
  const { clock, monotonic, intervalMs } = options;
  let lastSyncedAtMs = Number.NEGATIVE_INFINITY;
  /** Whether it succeeded. */
  let running: Promise<boolean> | undefined;
  let pokedWhileRunning = false;
  let stopped = true;
  let timer: NodeJS.Timeout | undefined;

  async function syncOnce(): Promise<void> {
    const sentAtMs = monotonic.nowMs();
    const state = await options.readState();
    const receivedAtMs = monotonic.nowMs();
    const event = clock.observe({ sentAtMs, receivedAtMs, databaseMs: state.databaseMs });
    if (event !== undefined) options.onClockEvent(event);
    await options.onState(state);
    lastSyncedAtMs = sentAtMs;
  }

  /** Beats are spread by a tenth, so that instances that lost the database together do not return in step. */
  function schedule(): void {
    if (stopped) return;
    timer = setTimeout(run, intervalMs * (0.9 + Math.random() / 5));
  }

  function run(): void {
    clearTimeout(timer);
    pokedWhileRunning = false;
    running = syncOnce()
      .then(
        () => true,
        (error: unknown) => {
          options.onFailure(error);
          return false;
        },
      )
      .finally(() => {
        running = undefined;
        if (pokedWhileRunning && !stopped) run();
        else schedule();
      });
  }

  return {
    syncOnce,
    start() {
      stopped = false;
      run();
    },
    poke() {
      if (stopped) return;
      if (running !== undefined) pokedWhileRunning = true;
      else run();
    },
    async isCurrent() {
      const askedAtMs = monotonic.nowMs();
      const sinceMs = askedAtMs - 2 * intervalMs;
      // The reading that is under way may have begun before.
      for (let readings = 0; readings < 2 && lastSyncedAtMs < sinceMs && !stopped; readings += 1) {
        if (running === undefined) run();
        const succeeded = await running;
        if (!succeeded && monotonic.nowMs() - askedAtMs > failsSoonMs) break;
      }
      return lastSyncedAtMs >= sinceMs;
    },
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await running;
    },
    ageMs: () => monotonic.nowMs() - lastSyncedAtMs,
  };
}
