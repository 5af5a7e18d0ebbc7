/** Audit events: who did what, from where. The database writes those that change something; refusals are told to it. */

/** Who acts, as every change is told. */
export interface Acting {
  /** `account:ID`, `client:ID`, `instance:ID` or `command`; null where nobody was authenticated. */
  readonly actor: string | null;
  readonly instanceId: string | null;
  readonly address: string | null;
}

/** Events that no statement of their own records. */
export type RefusalEvent =
  | "login_refused"
  | "refresh_refused"
  | "client_refused"
  | "password_change_refused"
  | "token_forged";

export interface AuditEvent {
  readonly event: RefusalEvent;
  readonly who: Acting;
  readonly accountId?: string;
  readonly sessionId?: string;
  readonly clientId?: string;
  readonly kid?: string;
  /** An error code or another word of ours; never anything a caller sent. */
  readonly detail?: string;
}

export interface AuditLog {
  /** Never throws, never waits: an event that cannot be written is counted. */
  record(event: AuditEvent): void;
}
