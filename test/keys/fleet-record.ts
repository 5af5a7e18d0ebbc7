/** What happened in a simulated fleet, as seen from outside: the invariants are judged by this, not by the code's own word. */

import type { KeyTimes, PublishedKey } from "../../src/keys/published-key.ts";
import type { Queryable } from "../../src/postgres/pool.ts";

export interface Publication extends KeyTimes {
  readonly name: string;
  readonly kid: string;
  readonly instanceId: string;
  /** Its place in the order of all that happened. */
  readonly committedOrder: number;
  /** When its owner first got the answer. */
  seenAtMs?: number;
  /** When its owner took it into its key ring. */
  heldAtMs?: number;
}

/** What a run has to go through: else it shows nothing. */
export const situations = [
  "a settled key signed",
  "a signature was borrowed",
  "a lender did not answer",
  "an immature key signed where no mature one could",
  "an instance found no place among the signers",
  "an instance alone signed at once",
  "nothing was issued",
  "a statement waited for a lock",
  "a key ended early after it had signed",
  "a key of a killed signer was served",
  "a key of a stopped signer was served",
  "a key was served without the database",
  "a key was served that a restored backup lacks",
  "rows that a restored backup lacks were put back",
  "an expired key was served no longer",
] as const;
export type Situation = (typeof situations)[number];

/** A row of `signing_keys`, as far as it matters here. */
export type KeyRow = Omit<PublishedKey, "alg" | "x" | "seal"> & {
  /** When it expires, by the database's own reckoning. */
  readonly expiryMs: number;
};

export interface IssuedToken {
  readonly token: string;
  readonly kid: string;
  readonly expMs: number;
  readonly issuedAtMs: number;
  readonly instanceId: string;
}

export interface FleetRecord {
  readonly publications: ReadonlyMap<string, Publication>;
  /** As last read: a row that vanished stays. */
  readonly rows: Map<string, KeyRow>;
  /** When a row's early end was first seen by `readRows`, in the order of all that happened. */
  readonly endedOrders: ReadonlyMap<string, number>;
  /** Keys whose rows a restored backup does not have, each with the instances that had read it before. */
  readonly lost: Map<string, ReadonlySet<string>>;
  readonly tokens: IssuedToken[];
  /** Instances that somebody began to end. */
  readonly leaving: Set<string>;
  nextOrder(): number;
  onCommitted(text: string, values: readonly unknown[], result: Result, nowMs: number): void;
  onAnswered(text: string, values: readonly unknown[], nowMs: number): void;
  onHeld(kid: string, nowMs: number): void;
  onUnanswered(borrowerId: string, lenderId: string, nowMs: number): void;
  /** Whether an issuing statement finds another live instance then. */
  isAnotherAlive(instanceId: string, nowMs: number): boolean;
  /** How long ago the instance gave its last sign of life; infinite where it was ended. */
  silentForMs(instanceId: string, nowMs: number): number;
  /** How long ago that borrower had no answer of that lender; infinite where it never came to that. */
  unansweredForMs(borrowerId: string, lenderId: string, nowMs: number): number;
  keyName(kid: string): string;
  readRows(database: Queryable): Promise<void>;
}

interface Result {
  readonly rowCount: number | null;
  readonly rows: readonly object[];
}

/** Of the design: a heartbeat older than this counts as none. */
const aliveForMs = 60_000;

const rowsText = `
  select k.kid, k.instance_id as "instanceId", k.published_at as "publishedAtMs", k.activates_at as "activatesAtMs",
         k.retires_at as "retiresAtMs", k.retired_early_at as "retiredEarlyAtMs", k.expires_at as "expiresAtMs",
         k.revoked_at as "revokedAtMs", keyfleet.key_expiry(k) as "expiryMs"
  from keyfleet.signing_keys k`;

export function createFleetRecord(): FleetRecord {
  let order = 0;
  const publications = new Map<string, Publication>();
  const rows = new Map<string, KeyRow>();
  const endedOrders = new Map<string, number>();
  const heartbeats = new Map<string, number>();
  const ended = new Set<string>();
  const unanswered = new Map<string, number>();

  return {
    publications,
    rows,
    endedOrders,
    lost: new Map(),
    tokens: [],
    leaving: new Set(),
    nextOrder: () => ++order,
    onCommitted(text, values, result, nowMs) {
      const [id = ""] = values.map(String);
      const [row] = result.rows as readonly { readonly outcome: string }[];
      if (text.includes("publish_key")) {
        const published = publishedBy(values);
        const { kid, instance_id: instanceId } = published;
        if (row?.outcome !== "published" || publications.has(kid)) return;
        const name = `k${publications.size + 1}`;
        const committedOrder = ++order;
        publications.set(kid, {
          ...{ name, kid, instanceId, committedOrder },
          publishedAtMs: Date.parse(published.published_at),
          activatesAtMs: Date.parse(published.activates_at),
          retiresAtMs: Date.parse(published.retires_at),
          expiresAtMs: Date.parse(published.expires_at),
        });
      } else if (text.includes("stop_instance")) ended.add(id);
      else if (text.includes("into keyfleet.instances") && result.rowCount === 1) heartbeats.set(id, nowMs);
      else if (text.includes("keyfleet.beat") && row?.outcome === "alive") heartbeats.set(id, nowMs);
    },
    onAnswered(text, values, nowMs) {
      if (!text.includes("publish_key")) return;
      const publication = publications.get(publishedBy(values).kid);
      if (publication !== undefined) publication.seenAtMs ??= nowMs;
    },
    onHeld(kid, nowMs) {
      const publication = publications.get(kid);
      if (publication !== undefined) publication.heldAtMs = nowMs;
    },
    onUnanswered: (borrowerId, lenderId, nowMs) => void unanswered.set(`${borrowerId} ${lenderId}`, nowMs),
    unansweredForMs: (borrowerId, lenderId, nowMs) =>
      nowMs - (unanswered.get(`${borrowerId} ${lenderId}`) ?? Number.NEGATIVE_INFINITY),
    isAnotherAlive: (instanceId, nowMs) =>
      [...heartbeats].some(
        ([id, heartbeatMs]) => id !== instanceId && !ended.has(id) && heartbeatMs > nowMs - aliveForMs,
      ),
    silentForMs: (instanceId, nowMs) =>
      ended.has(instanceId)
        ? Number.POSITIVE_INFINITY
        : nowMs - (heartbeats.get(instanceId) ?? Number.NEGATIVE_INFINITY),
    keyName: (kid) => publications.get(kid)?.name ?? `unpublished ${kid}`,
    async readRows(database) {
      const { rows: read } = await database.query<KeyRow>(rowsText);
      for (const row of read) {
        if (row.retiredEarlyAtMs !== (rows.get(row.kid)?.retiredEarlyAtMs ?? null))
          endedOrders.set(row.kid, ++order);
        rows.set(row.kid, row);
      }
    },
  };
}

interface PublishedValues {
  readonly kid: string;
  readonly instance_id: string;
  readonly published_at: string;
  readonly activates_at: string;
  readonly retires_at: string;
  readonly expires_at: string;
}

/** The row that a statement publishes. */
function publishedBy(values: readonly unknown[]): PublishedValues {
  return values[0] as PublishedValues;
}

/** Whether an instance knows of a key: it has read the table since, or has published the key itself. */
export function knows(
  { publications }: FleetRecord,
  instance: { readonly id: string; lastSync(): { readonly order: number } },
  kid: string,
): boolean {
  const publication = publications.get(kid);
  if (publication === undefined) return false;
  const isOwner = publication.instanceId === instance.id && publication.heldAtMs !== undefined;
  return isOwner || instance.lastSync().order > publication.committedOrder;
}
