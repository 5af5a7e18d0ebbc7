/**
 * Judges what a consumer made of a token, by what is known of the fleet and of the network at that time.
 *
 * A valid token that a consumer rejects is a false rejection, but where I9 promises nothing:
 * - the key that signed it was revoked;
 * - the key was not mature by then, which is allowed only while no mature signer is alive, and that is judged for
 *   itself (`signature-watch.ts`);
 * - the consumer asked, within the time for which it goes by what it has read, and nobody answered it at all;
 * - an instance answered it, within that time, that had been cut off from the database since the key was published.
 */

import type { Front, KeyAnswer } from "./front.ts";
import type { TokenNote } from "./ledger.ts";
import type { StormDatabase } from "./storm-database.ts";

export type RejectionVerdict = "false" | "immature key" | "nobody answered" | "cut off instance" | "revoked";

export interface Judgement {
  readonly verdict: RejectionVerdict;
  /** Of a false one: for who has to find out. */
  readonly why: string;
}

export interface RejectionCase {
  readonly note: Pick<TokenNote, "kid" | "jti">;
  /** How long the consumer goes by what it has read. */
  readonly staleMs: number;
  readonly startedAtMs: number;
  readonly endedAtMs: number;
}

/** What the database says of the token and of the key that signed it. */
export interface SignatureFacts {
  readonly publishedAtMs: number;
  readonly issuedAtMs: number;
  readonly isKeyRevoked: boolean;
}

/** Requests that were under way when the window began. */
export const slackMs = 5000;

/** `answers`: of the window of the case, and others. `facts`: undefined where there are none. */
export function judgeRejection(
  { note, staleMs, startedAtMs, endedAtMs }: RejectionCase,
  facts: SignatureFacts | undefined,
  answers: readonly KeyAnswer[],
  propagationDelayMs: number,
): Judgement {
  if (facts === undefined) return { verdict: "false", why: "neither its key nor its record is there" };
  const { publishedAtMs, issuedAtMs, isKeyRevoked } = facts;
  const ageMs = issuedAtMs - publishedAtMs;
  if (isKeyRevoked) return { verdict: "revoked", why: "" };
  if (ageMs < propagationDelayMs) return { verdict: "immature key", why: "" };
  const beganMs = startedAtMs - staleMs - slackMs;
  const within = answers.filter(
    ({ askedAtMs, answeredAtMs }) => answeredAtMs >= beganMs && askedAtMs <= endedAtMs,
  );
  if (within.some(({ member }) => member === undefined)) return { verdict: "nobody answered", why: "" };
  const denials = within.filter(({ denies }) => denies(note.kid));
  if (denials.some(({ member, askedAtMs }) => member?.wasCutOff(publishedAtMs, askedAtMs)))
    return { verdict: "cut off instance", why: "" };
  const deniedBy = denials.map(
    ({ member, askedAtMs }) => `${member?.name} ${askedAtMs - publishedAtMs} ms after its publication`,
  );
  return {
    verdict: "false",
    why:
      `its key was ${ageMs} ms old; ${within.length} answers within its time, ` +
      `denied by ${deniedBy.slice(0, 3).join(", ") || "none"}`,
  };
}

export function createJudge(deps: {
  readonly database: StormDatabase;
  readonly front: Front;
  readonly propagationDelayMs: number;
}): (rejection: RejectionCase) => Promise<Judgement> {
  const { database, front, propagationDelayMs } = deps;

  return async (rejection) => {
    // Before anything is waited for: they are kept for two minutes.
    const answers = front.answers();
    const [row] = await database.query<{ published: Date; issued: Date; revoked: boolean }>(
      `select k.published_at as published, t.issued_at as issued, k.revoked_at is not null as revoked
       from keyfleet.signing_keys k join keyfleet.issued_tokens t using (kid) where t.jti = $1`,
      [rejection.note.jti],
    );
    const facts = row && {
      publishedAtMs: row.published.getTime(),
      issuedAtMs: row.issued.getTime(),
      isKeyRevoked: row.revoked,
    };
    return judgeRejection(rejection, facts, answers, propagationDelayMs);
  };
}
