/** What people were told, and what came of it: every token and session, until when each is good, and all that went wrong. */

import { decodeJwt, decodeProtectedHeader } from "jose";

/** An access token that somebody was given. */
export interface TokenNote {
  readonly token: string;
  readonly kid: string;
  readonly jti: string;
  readonly sessionId: string;
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
  /** When its revocation had been answered: that of the token, its session or its key. */
  endedAtMs?: number;
  /** When its revocation was asked for: from then on nobody knows, until it is answered. */
  endingAtMs?: number;
}

export interface SessionNote {
  readonly id: string;
  refreshToken: string;
  /** Of its tokens the latest. */
  latest: TokenNote;
  state: "live" | "ending" | "ended";
}

export interface Ledger {
  /** Not expired yet. */
  tokens(): readonly TokenNote[];
  readonly sessions: readonly SessionNote[];
  noteToken(token: string): TokenNote;
  noteSession(session: SessionNote): void;
  /** All tokens that this ends; `endedAtMs` once it was answered. */
  noteEnding(which: (token: TokenNote) => boolean): { answered(): void };
  count(what: string, by?: number): void;
  counts(): ReadonlyMap<string, number>;
  /** Keeps the longest. */
  took(what: string, ms: number): void;
  longest(): ReadonlyMap<string, number>;
  violate(kind: ViolationKind, what: string): void;
  readonly violations: readonly string[];
  violationCount(kind: ViolationKind): number;
  tell(what: string): void;
  /** Seconds since it began, as the story gives them. */
  stamp(time: Date): string;
  /** What happened when. */
  readonly story: readonly string[];
}

export const violationKinds = [
  "false rejection",
  "false acceptance",
  "session lost",
  "revocation lost",
  "immature signature",
  "unavailable",
] as const;
export type ViolationKind = (typeof violationKinds)[number];

export function createLedger(): Ledger {
  const beganMs = Date.now();
  let tokens: TokenNote[] = [];
  const sessions: SessionNote[] = [];
  const counts = new Map<string, number>();
  const longest = new Map<string, number>();
  const kinds = new Map<ViolationKind, number>();
  const violations: string[] = [];
  const story: string[] = [];
  const stamp = (time: Date) => ((time.getTime() - beganMs) / 1000).toFixed(2);
  const stamped = (what: string) => `${stamp(new Date()).padStart(7)} ${what}`;
  return {
    tokens() {
      tokens = tokens.filter(({ expiresAtMs }) => expiresAtMs > Date.now());
      return tokens;
    },
    sessions,
    noteToken(token) {
      const { exp = 0, iat = 0, jti = "", rid } = decodeJwt(token);
      const { kid = "" } = decodeProtectedHeader(token);
      const times = { issuedAtMs: iat * 1000, expiresAtMs: exp * 1000 };
      const note: TokenNote = { token, kid, jti, sessionId: String(rid), ...times };
      tokens.push(note);
      return note;
    },
    noteSession: (session) => void sessions.push(session),
    noteEnding(which) {
      const ending = tokens.filter((note) => note.endedAtMs === undefined && which(note));
      for (const note of ending) note.endingAtMs ??= Date.now();
      return {
        answered() {
          const nowMs = Date.now();
          // Also those that were given out meanwhile.
          for (const note of tokens.filter(which)) {
            note.endingAtMs ??= nowMs;
            note.endedAtMs ??= nowMs;
          }
        },
      };
    },
    count: (what, by = 1) => void counts.set(what, (counts.get(what) ?? 0) + by),
    counts: () => counts,
    took: (what, ms) => void longest.set(what, Math.max(longest.get(what) ?? 0, ms)),
    longest: () => longest,
    violate(kind, what) {
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
      if (violations.length < 200) violations.push(stamped(`${kind}: ${what}`));
      story.push(stamped(`VIOLATION ${kind}: ${what}`));
    },
    violations,
    violationCount: (kind) => kinds.get(kind) ?? 0,
    tell: (what) => void story.push(stamped(what)),
    stamp,
    story,
  };
}
