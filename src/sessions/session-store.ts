/** What sessions need of a store; `postgres/sessions.ts` is one. */

import type { Seal } from "../seal.ts";
import type { IssueOutcome, TokenRequest } from "../tokens/issuing.ts";
import type { SessionFacts, SessionOrigin } from "./session.ts";

export interface SessionStart {
  readonly session: SessionFacts;
  readonly seal: Seal;
  /** The version of the account that was authenticated; another one by now is `authority_changed`. */
  readonly accountVersion: number;
  readonly origin: SessionOrigin;
  readonly refreshHash: Buffer;
  readonly token: TokenRequest;
}

export interface SessionStore {
  /** The issuing statement of a login: all of it is committed, or none. */
  start(start: SessionStart): Promise<IssueOutcome>;
}
