/** People who stay logged in and come anew, at whichever instance answers: what they notice of a bad day. */

import { setTimeout as pause } from "node:timers/promises";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { alice } from "../support/accounts.ts";

export interface People {
  /** What a person was told and could do nothing about. */
  readonly failures: readonly string[];
  readonly count: {
    readonly logins: number;
    readonly refreshes: number;
    /** Access tokens that were refused before their time. */
    readonly refused: number;
  };
  /** Refreshes every session there ever was once more. */
  stop(): Promise<void>;
}

const patienceMs = 10_000;

/** Everybody is alice; `urls` is what the balancer knows. A 503 or a broken connection is tried again elsewhere. */
export function startPeople(options: {
  readonly urls: () => readonly string[];
  readonly people: number;
  /** Of each of them, between what he asks. */
  readonly pauseMs?: number;
  /** Is told every access token that they are given. */
  readonly onToken?: (token: string) => void;
}): People {
  const { pauseMs = 40, onToken } = options;
  const failures: string[] = [];
  const count = { logins: 0, refreshes: 0, refused: 0 };
  const sessions = new Set<TokenResponse>();
  let stopped = false;
  let turn = 0;

  async function ask(path: string, init: RequestInit): Promise<{ status: number; text: string }> {
    for (const deadlineMs = performance.now() + patienceMs; performance.now() < deadlineMs; await pause(20)) {
      const urls = options.urls();
      turn += 1;
      try {
        const response = await fetch(`${urls[turn % urls.length]}${path}`, init);
        const text = await response.text();
        if (response.status !== 503) return { status: response.status, text };
      } catch {
        // It was stopped meanwhile; what it may have done is found out by asking another.
      }
    }
    return { status: 0, text: "nobody answers" };
  }

  async function post(path: string, members: Record<string, string>): Promise<TokenResponse | undefined> {
    const { status, text } = await ask(path, { method: "POST", body: new URLSearchParams(members) });
    if (status !== 200) {
      failures.push(`${path}: ${status} ${text}`);
      return undefined;
    }
    const tokens = JSON.parse(text) as TokenResponse;
    onToken?.(tokens.access_token);
    return tokens;
  }

  async function logIn(): Promise<TokenResponse | undefined> {
    const { username, password } = alice;
    const tokens = await post("/login", { username, password });
    if (tokens !== undefined) sessions.add(tokens);
    count.logins += 1;
    return tokens;
  }

  async function refresh(tokens: TokenResponse): Promise<TokenResponse | undefined> {
    const { refresh_token } = tokens;
    const next = await post("/token", { grant_type: "refresh_token", refresh_token });
    sessions.delete(tokens);
    if (next !== undefined) sessions.add(next);
    count.refreshes += 1;
    return next;
  }

  const isTaken = async ({ access_token }: TokenResponse) =>
    (await ask("/userinfo", { headers: { authorization: `Bearer ${access_token}` } })).status === 200;

  async function live(): Promise<void> {
    let tokens = await logIn();
    for (let step = 1; !stopped && tokens !== undefined; step += 1) {
      if (!(await isTaken(tokens))) {
        count.refused += 1;
        tokens = await refresh(tokens);
        if (tokens !== undefined && !(await isTaken(tokens))) failures.push("a new token is refused");
      } else if (step % 3 === 0) tokens = await refresh(tokens);
      if (step % 10 === 0) await logIn();
      await pause(pauseMs);
    }
  }

  const lives = Array.from({ length: options.people }, live);
  return {
    failures,
    count,
    async stop() {
      stopped = true;
      await Promise.all(lives);
      for (const tokens of [...sessions]) await refresh(tokens);
    },
  };
}
