/** One instance of the fleet: its identity, and its sign of life in the database. */

import { randomUUID } from "node:crypto";
import { hostname } from "node:os";

/** A heartbeat is written this often; one older than `aliveForMs` counts as none. */
export const heartbeatEveryMs = 5000;
export const aliveForMs = 60_000;

export interface Instance {
  readonly id: string;
  readonly host: string;
  readonly processId: number;
}

export interface InstanceStore {
  /** Writes the instance's row, or finds it there. */
  register(instance: Instance): Promise<void>;
  /** False where the row is gone, stopped or revoked: such an instance may sign no more. */
  heartbeat(instanceId: string): Promise<boolean>;
  /** Ends the instance: its unused keys are withdrawn, its current one is retired, both by now. */
  stop(instanceId: string): Promise<void>;
}

/** A new identity: a process that starts again is another instance. */
export function createInstance(): Instance {
  return { id: randomUUID(), host: hostname().slice(0, 255), processId: process.pid };
}
