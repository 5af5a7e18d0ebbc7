/** One instance's way to the database, which a test can cut, and on which it can make a commit slow. */

import type { Pool, Queryable } from "../../src/postgres/pool.ts";
import { inTransaction } from "../support/database.ts";
import type { VirtualTime } from "../support/virtual-time.ts";

/** What Node says where nobody listens any more. */
export class DatabaseAway extends Error {
  readonly code = "ECONNREFUSED";

  constructor() {
    super("connect ECONNREFUSED");
  }
}

export interface Outage {
  /** Statements that still get through. */
  readonly afterStatements: number;
  /** The first statement that does not is carried out all the same: only its answer is lost. */
  readonly answerLost: boolean;
}

export interface SlowCommit {
  /** Whether the statement has been carried out, and nobody else can see it yet. */
  isHeld(): boolean;
  /** Resolves when that is so. */
  readonly held: Promise<void>;
  release(): void;
}

export interface DatabaseLink extends Queryable {
  isUp(): boolean;
  cut(outage: Outage): void;
  mend(): void;
  /** The next statement that writes commits when released. */
  slowNextCommit(): SlowCommit;
  /** The next statement is under way for so much longer, as behind others that wait for a connection. */
  holdUpNextStatement(heldUpMs: number): void;
}

export interface DatabaseLinkOptions {
  readonly pool: Pool;
  readonly time: VirtualTime;
  /** How long a message is under way, each time anew. */
  latencyMs(): number;
  /** A statement was committed; whether the answer arrives is another matter. */
  onCommitted(
    text: string,
    values: readonly unknown[],
    result: { rowCount: number | null; rows: readonly object[] },
  ): void;
  onAnswered(text: string, values: readonly unknown[]): void;
}

const writes = /publish_key|start_session|stop_instance/;

export function createDatabaseLink(options: DatabaseLinkOptions): DatabaseLink {
  const { time, pool } = options;
  const direct = time.wrap(pool as Queryable);
  let outage: Outage | undefined;
  let statementsLeft = 0;
  let heldUpMs = 0;
  let slow: { readonly hold: () => void; readonly released: Promise<void> } | undefined;

  async function run<Row extends object>(text: string, values: readonly unknown[]) {
    if (slow === undefined || !writes.test(text)) return direct.query<Row>(text, values);
    const commit = slow;
    slow = undefined;
    return inTransaction(pool, async (client) => {
      const result = await time.wrap(client as Queryable).query<Row>(text, values);
      commit.hold();
      await commit.released;
      return result;
    });
  }

  return {
    isUp: () => outage === undefined,
    cut(next) {
      outage = next;
      statementsLeft = next.afterStatements;
    },
    mend() {
      outage = undefined;
    },
    slowNextCommit() {
      const held = deferred();
      const released = deferred();
      let isHeld = false;
      const commit = {
        released: released.promise,
        hold() {
          isHeld = true;
          held.resolve();
        },
      };
      slow = commit;
      return {
        held: held.promise,
        isHeld: () => isHeld,
        release() {
          if (slow === commit) slow = undefined;
          released.resolve();
        },
      };
    },
    holdUpNextStatement(nextMs) {
      heldUpMs = nextMs;
    },
    async query(text, values = []) {
      const left = statementsLeft;
      if (outage !== undefined) statementsLeft -= 1;
      const isLost = outage !== undefined && left <= 0;
      if (isLost && !(outage?.answerLost && left === 0)) throw new DatabaseAway();
      time.pass(heldUpMs + options.latencyMs());
      heldUpMs = 0;
      const result = await run(text, values);
      options.onCommitted(text, values, result);
      time.pass(options.latencyMs());
      if (isLost) throw new DatabaseAway();
      options.onAnswered(text, values);
      return result as never;
    },
  };
}

function deferred(): { readonly promise: Promise<void>; resolve(): void } {
  let resolve = () => {};
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
