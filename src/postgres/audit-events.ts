/** The table `audit_events`: written in batches where no statement of their own does, read by `keyfleet audit`. */

import type { AuditEvent, AuditLog } from "../audit.ts";
import type { Queryable } from "./pool.ts";

export interface AuditRow {
  readonly id: number;
  readonly atMs: number;
  readonly event: string;
  readonly actor: string | null;
  readonly instance_id: string | null;
  readonly address: string | null;
  readonly account_id: string | null;
  readonly session_id: string | null;
  readonly client_id: string | null;
  readonly kid: string | null;
  readonly detail: string | null;
}

const flushEveryMs = 100;
const batchEvents = 500;
/** A flood while the database is away must not fill the memory: beyond this, events are counted as lost. */
const queueMax = 5000;

export interface AuditWriter extends AuditLog {
  /** Writes what is waiting. Never throws. */
  close(): Promise<void>;
}

export function createAuditWriter(database: Queryable, onLost: (count: number) => void): AuditWriter {
  let queue: AuditEvent[] = [];
  let timer: NodeJS.Timeout | undefined;
  let writing: Promise<void> | undefined;

  async function flush(): Promise<void> {
    timer = undefined;
    while (queue.length > 0) {
      const batch = queue.slice(0, batchEvents);
      queue = queue.slice(batchEvents);
      await insertEvents(database, batch).catch(() => onLost(batch.length));
    }
  }

  function schedule(): void {
    timer ??= setTimeout(() => {
      writing = flush();
    }, flushEveryMs);
  }

  return {
    record(event) {
      if (queue.length >= queueMax) onLost(1);
      else {
        queue.push(event);
        schedule();
      }
    },
    async close() {
      clearTimeout(timer);
      await writing;
      await flush();
    },
  };
}

async function insertEvents(database: Queryable, events: readonly AuditEvent[]): Promise<void> {
  const rows = events.map(({ event, who, accountId, sessionId, clientId, kid, detail }) => ({
    event,
    actor: who.actor,
    instance_id: who.instanceId,
    address: who.address,
    account_id: accountId,
    session_id: sessionId,
    client_id: clientId,
    kid,
    detail,
  }));
  await database.query(
    `insert into keyfleet.audit_events
       (event, actor, instance_id, address, account_id, session_id, client_id, kid, detail)
     select event, actor, instance_id, address, account_id, session_id, client_id, kid, detail
     from jsonb_populate_recordset(null::keyfleet.audit_events, $1)`,
    [JSON.stringify(rows)],
  );
}

/** The last `limit` events, oldest first. */
export async function listAuditEvents(database: Queryable, limit: number): Promise<readonly AuditRow[]> {
  const { rows } = await database.query<AuditRow>(
    `select id, at as "atMs", event, actor, instance_id, address, account_id, session_id, client_id, kid, detail
     from keyfleet.audit_events order by id desc limit $1`,
    [limit],
  );
  return rows.reverse();
}
