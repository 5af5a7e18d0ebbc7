/** Consumers of `GET /revocations/stream` over node:http: one connection, or one that moves and resumes. */

import { Agent, type ClientRequest, get, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import type { RevocationEvent, RevocationSnapshot } from "../../src/protocol/revocation-event.ts";

export interface StreamEvent {
  readonly type: string;
  readonly id: string | undefined;
  readonly data: string;
  /** When it arrived, by `performance.now()`. */
  readonly atMs: number;
}

export interface StreamConnection {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** All so far, in order. */
  readonly events: readonly StreamEvent[];
  /** What was received, where it is no stream. */
  text(): string;
  /** `ended`: as HTTP ends an answer; `cut`: the connection broke, at either end. */
  readonly over: Promise<"ended" | "cut">;
  close(): void;
}

export interface StreamOptions {
  readonly lastEventId?: string | undefined;
  /** The address that the connection comes from. */
  readonly localAddress?: string;
  onEvent?(event: StreamEvent): void;
}

/** Resolves when the head of the answer is there; rejects where there is none. */
export async function openStream(url: string, options: StreamOptions = {}): Promise<StreamConnection> {
  const { lastEventId, localAddress, onEvent } = options;
  const headers = lastEventId === undefined ? {} : { "last-event-id": lastEventId };
  const address = localAddress === undefined ? {} : { localAddress };
  const agent = new Agent({ keepAlive: false });
  const [request, response] = await new Promise<[ClientRequest, IncomingMessage]>((resolve, reject) => {
    const sent = get(`${url}/revocations/stream`, { agent, headers, ...address }, (answer) =>
      resolve([sent, answer]),
    );
    sent.once("error", reject);
  });
  request.on("error", () => undefined);
  const events: StreamEvent[] = [];
  let unread = "";
  response.setEncoding("utf8");
  response.on("data", (text: string) => {
    const atMs = performance.now();
    const blocks = (unread + text).split("\n\n");
    unread = blocks.pop() ?? "";
    for (const block of blocks) {
      const event = parseEvent(block, atMs);
      events.push(event);
      onEvent?.(event);
    }
  });
  response.on("error", () => undefined);
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    events,
    text: () => unread,
    over: new Promise((resolve) =>
      response.once("close", () => resolve(response.complete ? "ended" : "cut")),
    ),
    close: () => request.destroy(),
  };
}

function parseEvent(block: string, atMs: number): StreamEvent {
  const fields = new Map<string, string>();
  for (const line of block.split("\n")) {
    const [, name = "", value = ""] = /^([^:]*): ?(.*)$/.exec(line) ?? [];
    fields.set(name, value);
  }
  return {
    type: fields.get("event") ?? "message",
    id: fields.get("id"),
    data: fields.get("data") ?? "",
    atMs,
  };
}

export const revocationOf = (event: StreamEvent) => JSON.parse(event.data) as RevocationEvent;
/** Of a heartbeat or of `ready`; NaN where there is none. */
export const asOfOf = (event: StreamEvent | undefined) =>
  event === undefined ? Number.NaN : (JSON.parse(event.data) as { as_of: number }).as_of;

export interface Consumer {
  /** Of the instance that it is connected to; undefined while it moves. */
  url(): string | undefined;
  /** Has it leave for another instance. */
  move(): void;
  moves(): number;
  /** The id that it would resume by. */
  lastEventId(): string | undefined;
  close(): void;
}

/** Stays connected, to one instance after another, and resumes by the last id that it was given. */
export function startConsumer(options: {
  /** The instance to go to, from the one before. */
  nextUrl(from: string | undefined): string;
  onEvent(event: StreamEvent, url: string): void;
}): Consumer {
  let connection: StreamConnection | undefined;
  let url: string | undefined;
  let lastEventId: string | undefined;
  let moves = 0;
  let closed = false;

  async function stay(): Promise<void> {
    for (let from: string | undefined; !closed; from = url) {
      const to = options.nextUrl(from);
      try {
        connection = await openStream(to, {
          lastEventId,
          onEvent(event) {
            lastEventId = event.id ?? lastEventId;
            options.onEvent(event, to);
          },
        });
        url = to;
        if (closed) connection.close();
        await connection.over;
        if (connection.status !== 200) throw new Error(`refused: ${connection.status}`);
      } catch {
        // An instance that is gone, or takes nobody: on to the next, without spinning.
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      connection = undefined;
      moves += 1;
    }
  }

  void stay();
  return {
    url: () => (connection === undefined ? undefined : url),
    move: () => connection?.close(),
    moves: () => moves,
    lastEventId: () => lastEventId,
    close() {
      closed = true;
      connection?.close();
    },
  };
}

export interface SnapshotAnswer {
  readonly status: number;
  readonly headers: Headers;
  /** Where it is 200. */
  readonly snapshot: RevocationSnapshot;
}

export async function readSnapshot(
  url: string,
  query = "",
  headers: Readonly<Record<string, string>> = {},
): Promise<SnapshotAnswer> {
  const response = await fetch(`${url}/revocations${query}`, { headers });
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    snapshot: (text === "" ? {} : JSON.parse(text)) as RevocationSnapshot,
  };
}
