/** What was revoked, as instances tell verifiers: opaque ids, each until it may be forgotten. */

export type RevocationType = "session" | "token" | "key";

/** Times are NumericDates. `id` is a `rid`, a `jti` or a `kid`, by type. */
export interface RevocationEvent {
  readonly type: RevocationType;
  readonly id: string;
  readonly revoked_at: number;
  /** No token that this refuses can be valid any more. */
  readonly expires_at: number;
}

/** `EPOCH:NUMBER`: numbers are only comparable within an epoch. */
export interface Cursor {
  readonly epoch: string;
  readonly number: number;
}

export function formatCursor({ epoch, number }: Cursor): string {
  return `${epoch}:${number}`;
}

/** Undefined where the text is no cursor. */
export function parseCursor(text: string): Cursor | undefined {
  const match = /^([0-9a-f]{32}):(\d{1,15})$/.exec(text);
  return match === null ? undefined : { epoch: match[1] ?? "", number: Number(match[2]) };
}

/** `GET /revocations`. */
export interface RevocationSnapshot {
  readonly cursor: string;
  /** The database time up to which the instance has read the log. */
  readonly as_of: number;
  readonly events: readonly RevocationEvent[];
}
