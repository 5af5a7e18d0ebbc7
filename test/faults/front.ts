/**
 * What consumers read from: an HTTP balancer in front of the fleet, which asks one instance after the other and knows
 * afterwards who answered what.
 */

import { createServer, get, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Member } from "./stormy-fleet.ts";

/** An answer about keys, or none. */
export interface KeyAnswer {
  /** When it was asked for, and when it was there. */
  readonly askedAtMs: number;
  readonly answeredAtMs: number;
  /** Undefined where no instance answered. */
  readonly member: Pick<Member, "name" | "wasCutOff"> | undefined;
  /** Whether it says that there is no such key. */
  denies(kid: string): boolean;
}

export interface Front {
  /** `http://localhost:PORT` */
  readonly url: string;
  setMembers(members: () => readonly Member[]): void;
  /** Of the last two minutes. */
  answers(): readonly KeyAnswer[];
  /** Who serves the revocation stream since when; undefined where nobody does, or several streams are open. */
  streaming(): { readonly member: Member; readonly sinceMs: number } | undefined;
  close(): Promise<void>;
}

const patienceMs = 1000;
/** Consumers wait for 5 s, some of which pass before it gets here, and after. */
const answeredWithinMs = 3500;
/** Who did not answer is asked last for a while, as balancers do. */
const avoidedForMs = 3000;
const keptForMs = 120_000;

export async function startFront(): Promise<Front> {
  let members: () => readonly Member[] = () => [];
  let turn = 0;
  const avoidedUntilMs = new Map<Member, number>();
  let answers: KeyAnswer[] = [];
  const streams = new Map<ServerResponse, { readonly member: Member; readonly sinceMs: number }>();

  function candidates(): readonly Member[] {
    const all = members();
    turn += 1;
    const turned = all.map((_, index) => all[(index + turn) % all.length] as Member);
    const isAvoided = (member: Member) => (avoidedUntilMs.get(member) ?? 0) > Date.now();
    return [...turned.filter((member) => !isAvoided(member)), ...turned.filter(isAvoided)];
  }

  function remember(answer: KeyAnswer): void {
    if (answers.length > 50_000) answers = answers.slice(25_000);
    answers.push(answer);
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? "/";
    const beganMs = Date.now();
    for (const member of candidates()) {
      const askedAtMs = Date.now();
      if (askedAtMs > beganMs + answeredWithinMs - patienceMs) break;
      try {
        const got = await fetch(member.instance.url + path, { signal: AbortSignal.timeout(patienceMs) });
        const text = await got.text();
        if (got.status >= 500) continue;
        remember({ askedAtMs, answeredAtMs: Date.now(), member, denies: denialOf(path, got.status, text) });
        response.writeHead(got.status, { "content-type": got.headers.get("content-type") ?? "" }).end(text);
        return;
      } catch {
        avoidedUntilMs.set(member, Date.now() + avoidedForMs);
      }
    }
    remember({ askedAtMs: Date.now(), answeredAtMs: Date.now(), member: undefined, denies: () => false });
    response.writeHead(503).end();
  }

  function stream(request: IncomingMessage, response: ServerResponse): void {
    const [member] = candidates();
    if (member === undefined) return void response.writeHead(503).end();
    const { accept, "last-event-id": lastEventId } = request.headers;
    const headers = { accept, ...(lastEventId === undefined ? {} : { "last-event-id": lastEventId }) };
    const asked = get(`${member.instance.url}/revocations/stream`, { agent: false, headers }, (got) => {
      response.writeHead(got.statusCode ?? 503, { "content-type": got.headers["content-type"] });
      response.flushHeaders();
      if (got.statusCode === 200) streams.set(response, { member, sinceMs: Date.now() });
      got.pipe(response);
      got.on("close", () => response.destroy());
    });
    asked.on("error", () => {
      avoidedUntilMs.set(member, Date.now() + avoidedForMs);
      response.destroy();
    });
    asked.setTimeout(patienceMs * 5, () => asked.destroy());
    response.on("close", () => {
      streams.delete(response);
      asked.destroy();
    });
  }

  const server = createServer((request, response) => {
    if (request.url === "/revocations/stream") stream(request, response);
    else void answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "localhost", resolve));
  return {
    url: `http://localhost:${(server.address() as AddressInfo).port}`,
    setMembers(next) {
      members = next;
    },
    answers() {
      answers = answers.filter(({ answeredAtMs }) => answeredAtMs > Date.now() - keptForMs);
      return answers;
    },
    streaming: () => (streams.size === 1 ? [...streams.values()][0] : undefined),
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function denialOf(path: string, status: number, text: string): (kid: string) => boolean {
  const single = /^\/\.well-known\/jwks\/(.+)$/.exec(path)?.[1];
  if (single !== undefined) return (kid) => status === 404 && kid === single;
  if (path !== "/.well-known/jwks.json" || status !== 200) return () => false;
  const kids = new Set((JSON.parse(text) as { keys: { kid: string }[] }).keys.map(({ kid }) => kid));
  return (kid) => !kids.has(kid);
}
