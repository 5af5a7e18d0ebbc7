/** What the key's life needs of a store; `postgres/signing-keys.ts` is one. */

import type { Seal } from "../seal.ts";
import type { KeyPublication, PublishedKey } from "./published-key.ts";

export type PublishOutcome =
  | { readonly outcome: "published"; readonly key: PublishedKey }
  /** The times proposed are over 500 ms off the database's clock. */
  | { readonly outcome: "clock_differs" }
  /** The publishing instance is leaving, stopped, revoked or unknown. */
  | { readonly outcome: "instance_ended" }
  /** The instance's keys were revoked since this one was made: it may be in other hands too. */
  | { readonly outcome: "ring_revoked" }
  /** As many instances as may publish keys do, or the JWKS is full. */
  | { readonly outcome: "no_place" };

export interface PublishConditions {
  /** How many instances may have keys that sign. */
  readonly maxSigners: number;
  /** When the keypair was generated: a revocation of its owner's keys since then is one of this key too. */
  readonly madeAtMs: number;
}

export interface PublishedKeyStore {
  /**
   * Commits the row. Repeating a publication whose answer was lost is safe: the row that stands is returned, with
   * the times it was first published with.
   */
  publish(publication: KeyPublication, seal: Seal, conditions: PublishConditions): Promise<PublishOutcome>;
  /**
   * All rows whose end as published is ahead, in no order, trustworthy or not: `keyFault` judges each. Those that
   * ended earlier are among them: who knows the key has to learn of it.
   */
  list(): Promise<readonly PublishedKey[]>;
  /**
   * Puts back, unchanged, what the table lacks of keys that were seen in it: rows, earlier ends, revocations. Returns how
   * many rows were not as they are now.
   */
  restore(keys: readonly PublishedKey[]): Promise<number>;
}
