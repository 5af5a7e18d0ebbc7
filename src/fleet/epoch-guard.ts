/** Notices where the revocation log may have gone back in time, before anything is concluded from its numbers. */

import type { FleetState } from "./fleet-sync.ts";

export interface EpochGuardOptions {
  readState(): Promise<FleetState>;
  /** What this instance has read of the log so far. */
  lastSeen(): { readonly epoch: string; readonly number: number };
  /** Has the database look, and begin another epoch where it must. */
  confirm(seenNumber: number, isRegistering: boolean): Promise<void>;
}

export interface EpochGuard {
  readState(): Promise<FleetState>;
  /** Has the next reading look again: a new connection may lead to another server. */
  doubt(): void;
  /** Whether that is still to come. */
  isDoubtful(): boolean;
}

/** Looks at the first reading, after each one that failed, in doubt, and at a lower number. */
export function createEpochGuard(options: EpochGuardOptions): EpochGuard {
  let isRegistering = true;
  let isDoubtful = true;
  let isConfirming = false;

  async function confirm(): Promise<void> {
    // Before the question is asked, so that doubt which comes up meanwhile stands.
    isDoubtful = false;
    isConfirming = true;
    try {
      await options.confirm(options.lastSeen().number, isRegistering);
    } finally {
      isConfirming = false;
    }
    isRegistering = false;
  }

  return {
    async readState() {
      try {
        if (isDoubtful) await confirm();
        const state = await options.readState();
        const seen = options.lastSeen();
        if (state.epoch !== seen.epoch || state.revocationNumber >= seen.number) return state;
        await confirm();
        return await options.readState();
      } catch (error) {
        isDoubtful = true;
        throw error;
      }
    },
    doubt() {
      isDoubtful = true;
    },
    isDoubtful: () => isDoubtful || isConfirming,
  };
}
