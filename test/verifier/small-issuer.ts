/** A small issuer of its own for the verifier's tests: real HTTP, every request on record. */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { RevocationEvent } from "../../src/protocol/revocation-event.ts";

export interface SmallIssuer {
  readonly url: string;
  /** Every request so far, as its path and query. */
  readonly requests: readonly string[];
  /** What `/.well-known/jwks/{kid}` answers, and, where it is a JWK, what the set has of it. */
  serveKey(kid: string, answer: KeyAnswer): void;
  /** Members of the metadata that are different from now on. */
  changeMetadata(members: Readonly<Record<string, unknown>>): void;
  revoke(type: RevocationEvent["type"], id: string): void;
  /** Answers this path so from now on; undefined: as before. */
  answerWith(path: string, answer: Answer | undefined): void;
  openStreams(): number;
  close(): Promise<void>;
}

export type KeyAnswer =
  | { readonly jwk: unknown }
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>>; readonly body?: string };

export type Answer = (request: IncomingMessage, response: ServerResponse) => void;

export interface SmallIssuerOptions {
  /** The database's time, in milliseconds. */
  readonly now: () => number;
}

const epoch = "0123456789abcdef0123456789abcdef";
const heartbeatEveryMs = 1000;
const dayMs = 86_400_000;

export async function startSmallIssuer({ now }: SmallIssuerOptions): Promise<SmallIssuer> {
  const requests: string[] = [];
  const answers = new Map<string, KeyAnswer>();
  const events: RevocationEvent[] = [];
  const streams = new Set<ServerResponse>();
  const changedAnswers = new Map<string, Answer>();
  let changed: Readonly<Record<string, unknown>> = {};
  const asOf = () => now() / 1000;
  const cursor = (number: number) => `${epoch}:${number}`;

  const server = createServer((request, response) => {
    const target = request.url ?? "";
    requests.push(target);
    const { pathname } = new URL(target, url);
    const kid = /^\/\.well-known\/jwks\/(.+)$/.exec(pathname)?.[1];
    const changedAnswer = changedAnswers.get(pathname);
    if (changedAnswer !== undefined) changedAnswer(request, response);
    else if (pathname === "/.well-known/openid-configuration")
      sendJson(response, { ...metadata(), ...changed });
    else if (pathname === "/.well-known/jwks.json") sendJson(response, { keys: publishedKeys() });
    else if (kid !== undefined) sendKey(response, answers.get(kid));
    else if (pathname === "/revocations") sendJson(response, snapshot());
    else if (pathname === "/revocations/stream") stream(request, response);
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  const metadata = () => ({
    issuer: url,
    jwks_uri: `${url}/.well-known/jwks.json`,
    introspection_endpoint: `${url}/introspect`,
    revocation_events_endpoint: `${url}/revocations`,
  });
  const publishedKeys = () =>
    [...answers.values()].flatMap((answer) => ("jwk" in answer ? [answer.jwk] : []));
  const snapshot = () => ({ cursor: cursor(events.length), as_of: asOf(), events });

  function sendKey(response: ServerResponse, answer: KeyAnswer = { status: 404 }): void {
    if ("jwk" in answer) sendJson(response, answer.jwk);
    else response.writeHead(answer.status, answer.headers).end(answer.body);
  }

  function stream(request: IncomingMessage, response: ServerResponse): void {
    const known = Number(String(request.headers["last-event-id"] ?? cursor(0)).split(":")[1]);
    response.writeHead(200, { "content-type": "text/event-stream" });
    events.forEach((event, index) => {
      if (index >= known) send(response, "revocation", event, index + 1);
    });
    send(response, "ready", { as_of: asOf() }, events.length);
    streams.add(response);
    response.once("close", () => streams.delete(response));
  }

  const heartbeats = setInterval(() => {
    for (const response of streams) send(response, "heartbeat", { as_of: asOf() });
  }, heartbeatEveryMs);

  return {
    url,
    requests,
    serveKey: (kid, answer) => void answers.set(kid, answer),
    changeMetadata(members) {
      changed = members;
    },
    revoke(type, id) {
      const event = { type, id, revoked_at: asOf(), expires_at: asOf() + dayMs };
      events.push(event);
      for (const response of streams) send(response, "revocation", event, events.length);
    },
    answerWith(path, answer) {
      if (answer === undefined) changedAnswers.delete(path);
      else changedAnswers.set(path, answer);
    },
    openStreams: () => streams.size,
    async close() {
      clearInterval(heartbeats);
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function send(response: ServerResponse, event: string, data: object, number?: number): void {
  const id = number === undefined ? "" : `id: ${epoch}:${number}\n`;
  response.write(`event: ${event}\n${id}data: ${JSON.stringify(data)}\n\n`);
}

export function sendJson(response: ServerResponse, body: unknown): void {
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify(body));
}
