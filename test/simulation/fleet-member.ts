/** One instance of a large fleet, its statements counted. */

import type { Account } from "../../src/accounts/account.ts";
import { secondMs } from "../../src/clock.ts";
import { publicationDelayMs, type RotationSettings } from "../../src/keys/rotation-plan.ts";
import type { Pool } from "../../src/postgres/pool.ts";
import { createDatabaseLink } from "../keys/database-link.ts";
import {
  createInstanceId,
  createSimulatedInstance,
  type FleetSettings,
  type SimulatedInstance,
} from "../keys/simulated-instance.ts";
import type { LoanOffice } from "../keys/simulated-loans.ts";
import { testSecrets } from "../support/accounts.ts";
import type { VirtualTime } from "../support/virtual-time.ts";

export interface Member {
  readonly instance: SimulatedInstance;
  readonly joinedAtMs: number;
  readonly jitter: number;
  state: "live" | "leaving" | "gone";
  /** While it has no place: when it asks for one next. */
  nextAskMs: number;
}

export const tickEveryMs = 250;
/** A key's private half is dropped five seconds after its end. */
const dropsAfterMs = 6 * secondMs;

/** When a signer does something next: it publishes, or it drops what is done. */
export function nextTurnMs(settings: RotationSettings, nowMs: number): number {
  const period = settings.schedule.periodAt(nowMs);
  const turnsMs = [period, settings.schedule.periodAfter(period)].flatMap((of) => [
    of.startMs + dropsAfterMs,
    of.startMs + tickEveryMs + publicationDelayMs(of, settings),
  ]);
  return Math.min(...turnsMs.filter((turnMs) => turnMs > nowMs + 1));
}

export function createMemberInstance(options: {
  readonly number: number;
  readonly settings: FleetSettings;
  readonly jitter: number;
  readonly pool: Pool;
  readonly time: VirtualTime;
  readonly office: LoanOffice;
  readonly account: Account;
  readonly monotonicOriginMs: number;
  demand(holds: boolean, claim: string): void;
  nextOrder(): number;
  onAnswered(kind: "publication" | "place"): void;
}): SimulatedInstance {
  const { pool, time } = options;
  const nothing = () => undefined;
  const link = createDatabaseLink({
    ...{ pool, time, latencyMs: () => 0, onAnswered: nothing },
    onCommitted(text, _values, { rows }) {
      if (!text.includes("publish_key")) return;
      const [row] = rows as readonly { readonly outcome: string }[];
      options.onAnswered(row?.outcome === "published" ? "publication" : "place");
    },
  });
  return createSimulatedInstance({
    ...options,
    ...{ id: createInstanceId(), link, secrets: testSecrets, toleranceMs: 1 },
    ...{ onPublished: nothing, onLoan: nothing },
    monotonic: time.createMonotonicClock(options.monotonicOriginMs),
    onRestored: (rows) => options.demand(rows === 0, "rows were put back that nothing had taken away"),
  });
}
