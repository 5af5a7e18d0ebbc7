/**
 * People who log in, refresh, log out and revoke at whatever instance answers, try elsewhere what was answered 503 or
 * broke off, as clients do, and remember what they were told.
 */

import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { alice, manageAccounts } from "../support/accounts.ts";
import type { Ledger, SessionNote, TokenNote } from "./ledger.ts";
import type { SeededRandom } from "./seeded-random.ts";
import type { StormDatabase } from "./storm-database.ts";
import type { Member, StormyFleet } from "./stormy-fleet.ts";

export interface StormPeople {
  /** Everybody stops, and says which sessions live and which do not, by trying each once more. */
  stop(): Promise<void>;
  /** They go home at once, and say nothing. */
  abandon(): void;
}

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly at: Pick<Member, "name" | "traits">;
  /** Attempts that may have had an effect, and were not answered. */
  readonly lost: number;
}

/** The ledger's name for tokens of instances with a trait. */
export const issuedBy = (trait: string) => `tokens issued, by ${trait}`;

/** Longer than a minute, after which lost signers count as dead; shorter than the grace of a refresh. */
const patienceMs = 150_000;
/** Worth telling. */
const longWaitMs = 10_000;
const attemptMs = 4000;
const sessionsEach = 5;

export async function startStormPeople(options: {
  readonly database: StormDatabase;
  readonly fleet: StormyFleet;
  readonly ledger: Ledger;
  readonly random: SeededRandom;
  readonly people: number;
  readonly pauseMs: number;
  onToken(note: TokenNote): void;
}): Promise<StormPeople> {
  const { database, fleet, ledger, random } = options;
  let stopped = false;
  let abandoned = false;
  let turn = 0;

  async function ask(path: string, init: RequestInit): Promise<Answer> {
    let lost = 0;
    const beganMs = Date.now();
    for (
      const deadlineMs = Date.now() + patienceMs;
      Date.now() < deadlineMs && !abandoned;
      await pause(100)
    ) {
      const members = fleet.serving();
      turn += 1;
      const member = members[turn % members.length];
      if (member === undefined) continue;
      try {
        const signal = AbortSignal.timeout(attemptMs);
        const response = await fetch(`${member.instance.url}${path}`, { ...init, method: "POST", signal });
        const text = await response.text();
        if (response.status !== 503) {
          const waitedMs = Date.now() - beganMs;
          ledger.took(`a person waited for ${path}`, waitedMs);
          if (waitedMs > longWaitMs)
            ledger.tell(`a person waited for ${path} ${waitedMs} ms, and ${lost} tries`);
          return { status: response.status, text, at: member, lost };
        }
        ledger.count("answers 503");
      } catch {
        ledger.count("requests not answered");
      }
      lost += 1;
    }
    return { status: 0, text: "nobody answers", at: { name: "nobody", traits: [] }, lost };
  }

  const post = (path: string, members: Record<string, string>, headers: Record<string, string> = {}) =>
    ask(path, { headers, body: new URLSearchParams(members) });

  function take({ text, at }: Answer): { tokens: TokenResponse; note: TokenNote } {
    const tokens = JSON.parse(text) as TokenResponse;
    ledger.count("tokens issued");
    for (const trait of at.traits) ledger.count(issuedBy(trait));
    const note = ledger.noteToken(tokens.access_token);
    options.onToken(note);
    return { tokens, note };
  }

  const say = ({ status, text, at, lost }: Answer) =>
    `${status} ${text.slice(0, 120)} at ${at.name} after ${lost} lost attempts`;

  async function logIn(username: string): Promise<SessionNote | undefined> {
    const answer = await post("/login", { username, password: alice.password });
    ledger.count("logins");
    if (answer.status !== 200) {
      ledger.violate("unavailable", `a login was answered ${say(answer)}`);
      return undefined;
    }
    const { tokens, note } = take(answer);
    const session: SessionNote = {
      id: tokens.session_id,
      refreshToken: tokens.refresh_token,
      latest: note,
      state: "live",
    };
    ledger.noteSession(session);
    return session;
  }

  async function refresh(session: SessionNote): Promise<void> {
    const answer = await post("/token", { grant_type: "refresh_token", refresh_token: session.refreshToken });
    ledger.count("refreshes");
    if (session.state === "live" && answer.status === 200) {
      const { tokens, note } = take(answer);
      session.refreshToken = tokens.refresh_token;
      session.latest = note;
    } else if (session.state === "live") {
      session.state = "ended";
      ledger.violate("session lost", `${session.id} was answered ${say(answer)}`);
    } else if (answer.status === 200) {
      ledger.violate("revocation lost", `the ended ${session.id} was refreshed at ${answer.at.name}`);
    }
  }

  /** By its refresh token, or by an access token; by the one endpoint or the other. */
  async function end(session: SessionNote): Promise<void> {
    session.state = "ending";
    const ending = ledger.noteEnding(({ sessionId }) => sessionId === session.id);
    const { token, endedAtMs, expiresAtMs } = session.latest;
    const isBearerGood = endedAtMs === undefined && expiresAtMs > Date.now() + patienceMs;
    const how = random.next();
    const answer =
      how < 0.4 && isBearerGood
        ? await ask("/logout", { headers: { authorization: `Bearer ${token}` } })
        : how < 0.7
          ? await post("/logout", { refresh_token: session.refreshToken })
          : await post("/revoke", { token: session.refreshToken, client_id: "first-party" });
    ledger.count("sessions ended");
    session.state = "ended";
    // Where an attempt was lost, it may have been done already, and an access token is good for nothing any more.
    const isDone =
      answer.status === 204 || answer.status === 200 || (answer.status === 401 && answer.lost > 0);
    if (isDone) ending.answered();
    else ledger.violate("unavailable", `the end of ${session.id} was answered ${say(answer)}`);
  }

  async function revokeAccessToken(session: SessionNote): Promise<void> {
    const note = session.latest;
    if (note.endingAtMs !== undefined) return;
    const ending = ledger.noteEnding(({ jti }) => jti === note.jti);
    const answer = await post("/revoke", { token: note.token, client_id: "first-party" });
    ledger.count("tokens revoked");
    if (answer.status === 200) ending.answered();
    else ledger.violate("unavailable", `the revocation of a token was answered ${say(answer)}`);
  }

  async function live(username: string): Promise<void> {
    const sessions: SessionNote[] = [];
    while (!stopped) {
      const session = random.pick(sessions);
      const what = random.next();
      if (session === undefined || (what < 0.25 && sessions.length < sessionsEach)) {
        const next = await logIn(username);
        if (next !== undefined) sessions.push(next);
      } else if (what < 0.8) await refresh(session);
      else if (what < 0.9) await revokeAccessToken(session);
      else await end(session);
      if (session !== undefined && session.state !== "live") sessions.splice(sessions.indexOf(session), 1);
      await pause(options.pauseMs * (0.5 + random.next()));
    }
  }

  const names = Array.from({ length: options.people }, () => `person-${randomUUID()}`);
  await manageAccounts(database.url, async (accounts) => {
    for (const username of names) await accounts.add(username, alice.password, ["orders:read"]);
  });
  const lives = names.map(live);
  return {
    abandon() {
      stopped = true;
      abandoned = true;
    },
    async stop() {
      stopped = true;
      await Promise.all(lives);
      for (const session of ledger.sessions) await refresh(session);
      ledger.count("sessions tried at the end", ledger.sessions.length);
    },
  };
}
