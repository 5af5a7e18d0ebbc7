/**
 * Judges what a consumer made of a token, by what is known of the fleet and of the network at that time.
 *
 * A valid token that a consumer rejects is a false rejection, but where I9 promises nothing:
 * - the key that signed it was not mature by then, which is allowed only while no mature signer is alive, and that is
 *   judged for itself (`signature-watch.ts`);
 * - the consumer asked, within the time for which it goes by what it has read, and nobody answered it at all;
 * - an instance answered it, within that time, that had not reached the database since the key was published.
 */

import type { Front } from "./front.ts";
import type { TokenNote } from "./ledger.ts";
import type { StormDatabase } from "./storm-database.ts";

export type RejectionVerdict = "false" | "immature key" | "nobody answered" | "cut off instance" | "revoked";

export interface RejectionCase {
  readonly note: TokenNote;
  /** How long the consumer goes by what it has read. */
  readonly staleMs: number;
  readonly startedAtMs: number;
  readonly endedAtMs: number;
}

/** Requests that were under way when the window began. */
const slackMs = 5000;

export function createJudge(deps: {
  readonly database: StormDatabase;
  readonly front: Front;
  readonly propagationDelayMs: number;
}): (rejection: RejectionCase) => Promise<{ verdict: RejectionVerdict; why: string }> {
  const { database, front, propagationDelayMs } = deps;

  return async ({ note, staleMs, startedAtMs, endedAtMs }) => {
    // Before anything is waited for: answers are kept for two minutes.
    const answers = front
      .answersSince(startedAtMs - staleMs - slackMs)
      .filter(({ askedAtMs }) => askedAtMs <= endedAtMs);
    const [key] = await database.query<{ published: Date; issued: Date; revoked: boolean }>(
      `select k.published_at as published, t.issued_at as issued, k.revoked_at is not null as revoked
       from keyfleet.signing_keys k join keyfleet.issued_tokens t using (kid) where t.jti = $1`,
      [note.jti],
    );
    if (key === undefined) return { verdict: "false", why: "neither its key nor its record is there" };
    const publishedAtMs = key.published.getTime();
    const ageMs = key.issued.getTime() - publishedAtMs;
    if (key.revoked) return { verdict: "revoked", why: "" };
    if (ageMs < propagationDelayMs) return { verdict: "immature key", why: "" };
    if (answers.some(({ member }) => member === undefined)) return { verdict: "nobody answered", why: "" };
    const denials = answers.filter(({ denies }) => denies(note.kid));
    const cutOff = denials.filter(
      ({ member, askedAtMs }) => !member?.reachedDatabase(publishedAtMs, askedAtMs),
    );
    if (cutOff.length > 0) return { verdict: "cut off instance", why: "" };
    const deniedBy = denials.map(
      ({ member, askedAtMs }) => `${member?.name} ${askedAtMs - publishedAtMs} ms after its publication`,
    );
    return {
      verdict: "false",
      why:
        `its key was ${ageMs} ms old; ${answers.length} answers within its time, ` +
        `denied by ${deniedBy.slice(0, 3).join(", ") || "none"}`,
    };
  };
}
