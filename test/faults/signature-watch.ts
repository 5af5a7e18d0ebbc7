/**
 * Counts tokens by the key that signed them, and looks for those of a key that caches did not know yet although a mature
 * signer was alive.
 */

import type { Ledger } from "./ledger.ts";
import type { StormDatabase } from "./storm-database.ts";
import type { StormyFleet } from "./stormy-fleet.ts";

/**
 * A mature signer counts as alive until it ends, but where it was hindered for so long that it may have been silent: a
 * beat comes every 5 s, and 15 s are silence. As mature it counts from a second later on, for who issues at that very
 * moment may have looked before.
 */
const alive = { withinMs: 15_000, cutForMs: 8000 };
/** A statement that chose its key then, it may have ended before. */
const endMarginMs = 1500;

interface Suspect {
  readonly jti: string;
  readonly issued: Date;
  readonly ownPublished: Date;
  readonly borrower: string;
  readonly signer: string;
  readonly lenderPublished: Date;
  readonly lenderActivates: Date;
}

/** Of everything issued since it was made, or since the call before. */
export function createSignatureWatch(deps: {
  readonly database: StormDatabase;
  readonly fleet: StormyFleet;
  readonly ledger: Ledger;
  readonly propagationDelayMs: number;
}): () => Promise<void> {
  const { database, fleet, ledger, propagationDelayMs } = deps;
  let since = new Date();

  function wasAlive(instanceId: string, atMs: number): boolean {
    const member = fleet.members.find((candidate) => candidate.instanceId() === instanceId);
    return (
      member !== undefined &&
      member.endedAtMs > atMs + endMarginMs &&
      member.cutForMs(atMs - alive.withinMs, atMs) < alive.cutForMs
    );
  }

  return async () => {
    const [now] = await database.query<{ now: Date }>(
      "select clock_timestamp() - interval '2 seconds' as now",
    );
    // Each beside the mature keys of others at its time: by its own times and ends, whoever held it.
    const suspects = await database.query<Suspect>(
      `select t.jti, t.issued_at as issued, own.published_at as "ownPublished",
         t.instance_id as borrower, lender.instance_id as signer, lender.published_at as "lenderPublished",
         lender.activates_at as "lenderActivates"
       from keyfleet.issued_tokens t
         join keyfleet.signing_keys own using (kid)
         left join keyfleet.signing_keys lender on lender.instance_id <> t.instance_id
           and lender.published_at + $1::interval + interval '1 second' <= t.issued_at
           and lender.activates_at <= t.issued_at
           and least(lender.retires_at, coalesce(lender.retired_early_at, 'infinity'),
                     coalesce(lender.revoked_at, 'infinity')) > t.issued_at + interval '1 second'
       where t.issued_at >= $2 and t.issued_at < $3 and t.issued_at < own.published_at + $1::interval`,
      [`${propagationDelayMs} milliseconds`, since, now?.now],
    );
    const [counted] = await database.query<Record<string, number>>(
      `select count(*) filter (where not borrowed and mature)::int as mature,
              count(*) filter (where borrowed)::int as borrowed, count(*) filter (where not mature)::int as immature
       from (select k.instance_id <> t.instance_id as borrowed, t.issued_at >= k.published_at + $1::interval as mature
             from keyfleet.issued_tokens t join keyfleet.signing_keys k using (kid)
             where t.issued_at >= $2 and t.issued_at < $3) issued`,
      [`${propagationDelayMs} milliseconds`, since, now?.now],
    );
    for (const [kind, count] of Object.entries(counted ?? {}))
      ledger.count(`tokens recorded, ${kind}`, count);
    since = now?.now ?? since;
    const told = new Set<string>();
    for (const suspect of suspects) {
      const { jti, issued, borrower, signer } = suspect;
      if (told.has(jti) || signer === null || !wasAlive(signer, issued.getTime())) continue;
      told.add(jti);
      const nameOf = (id: string) => fleet.members.find((one) => one.instanceId() === id)?.name;
      const before = (then: Date) => `${issued.getTime() - then.getTime()} ms`;
      ledger.violate(
        "immature signature",
        `${nameOf(borrower)} signed at ${ledger.stamp(issued)} with its own key of ${before(suspect.ownPublished)}, ` +
          `while ${nameOf(signer)} lived, with one of ${before(suspect.lenderPublished)} ` +
          `that had been active for ${before(suspect.lenderActivates)}`,
      );
    }
  };
}
