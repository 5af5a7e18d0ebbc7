/** `GET /revocations` and `/revocations/stream`: what verifiers refuse, as a snapshot and as server-sent events. */

import type { Request, Response } from "express";
import { secondMs, toNumericDate } from "../clock.ts";
import { Refusal, unavailable } from "../errors.ts";
import { formatCursor, parseCursor, type RevocationSnapshot } from "../protocol/revocation-event.ts";
import { type Revocation, toRevocationEvent } from "../revocation/revocation.ts";
import type { RevocationLog } from "../revocation/revocation-log.ts";
import { addressBlock, canonicalAddress } from "./address.ts";

/** `?after=` of another epoch or malformed: the caller has to start from the whole. */
export function createRevocationSnapshotHandler(log: RevocationLog) {
  return (request: Request, response: Response): void => {
    if (!log.isLoaded()) throw unavailable("The revocations are being loaded.");
    const { epoch, number } = log.cursor();
    const { after } = request.query;
    const from = after === undefined ? 0 : numberAfter(after, epoch);
    const entries = log.after(from);
    const cursor = formatCursor({ epoch, number: Math.max(number, from) });
    const asOf = toNumericDate(log.asOfMs());
    // Not of as_of, which rises all the time. Up to one number entries only go, by expiry: as many are the same ones.
    const etag = `"${from}-${cursor}-${entries.length}"`;
    response.set({ ETag: etag, "Cache-Control": "no-cache", "X-As-Of": String(asOf) });
    if (request.get("if-none-match") === etag) return void response.status(304).end();
    const snapshot: RevocationSnapshot = { cursor, as_of: asOf, events: entries.map(toRevocationEvent) };
    response.json(snapshot);
  };
}

/** It may be ahead of this instance: another one has read more by now. */
function numberAfter(after: unknown, epoch: string): number {
  const cursor = typeof after === "string" ? parseCursor(after) : undefined;
  if (cursor === undefined) throw new Refusal("invalid_request", { description: "after is no cursor" });
  if (cursor.epoch !== epoch) throw new Refusal("cursor_expired");
  return cursor.number;
}

export interface RevocationStream {
  handler(request: Request, response: Response): void;
  /** Ends every stream, so that its consumer moves to another instance. */
  close(): void;
  consumers(): number;
}

export interface RevocationStreamOptions {
  readonly log: RevocationLog;
  /** Consumers in all, and from one address block. */
  readonly limit: number;
  readonly limitPerAddress: number;
  onDropped(): void;
}

const heartbeatEveryMs = secondMs;
/** A consumer that leaves more than this unread is cut off rather than buffered for: it resumes by its last id. */
const unreadMaxBytes = 1024 * 1024;
/** Who has much to catch up is sent so many entries, and the next when they are read: a log for each would be much. */
const catchUpEntries = 250;
/** For how many heartbeats they may stay unread. */
const catchUpBeats = 5;
/** How long the end of a stream may stay unread. */
const endingMs = 5 * secondMs;

interface Consumer {
  readonly addressBlock: string;
  /**
   * What it has been sent of what was there before it came. It may have read that elsewhere: this instance may be behind
   * the one it comes from.
   */
  sentNumber: number;
  /** Until it has been sent all of that: how many heartbeats ago it was sent the latest part. */
  catchingUpBeats: number | undefined;
}

function formatEvent(entry: Revocation, epoch: string): string {
  const id = formatCursor({ epoch, number: entry.number });
  return `event: revocation\nid: ${id}\ndata: ${JSON.stringify(toRevocationEvent(entry))}\n\n`;
}

/** Each event once and in the log's order, from wherever the consumer was. */
export function createRevocationStream(options: RevocationStreamOptions): RevocationStream {
  const { log, limit, limitPerAddress } = options;
  const consumers = new Map<Response, Consumer>();
  let closed = false;
  const unsubscribe = log.subscribe((entries) => {
    if (entries.length === 0) return endAll();
    const { epoch } = log.cursor();
    const events = entries.map((entry) => ({ number: entry.number, text: formatEvent(entry, epoch) }));
    const everything = Buffer.from(events.map(({ text }) => text).join(""));
    for (const [response, { sentNumber, catchingUpBeats }] of consumers) {
      if (catchingUpBeats !== undefined) continue;
      const isAhead = sentNumber >= (entries[0]?.number ?? 0);
      const unread = isAhead ? events.filter(({ number }) => number > sentNumber) : [];
      send(response, isAhead ? unread.map(({ text }) => text).join("") : everything);
    }
  });
  const heartbeat = setInterval(() => {
    const bytes = Buffer.from(`event: heartbeat\ndata: {"as_of":${toNumericDate(log.asOfMs())}}\n\n`);
    for (const [response, consumer] of consumers) {
      // No as_of before it has been sent all that was revoked until then.
      if (consumer.catchingUpBeats === undefined) send(response, bytes);
      else if (consumer.catchingUpBeats < catchUpBeats) consumer.catchingUpBeats += 1;
      else drop(response);
    }
  }, heartbeatEveryMs);
  heartbeat.unref();

  function drop(response: Response): void {
    // Its connection closes later, and until then another event may find it as full.
    if (!consumers.delete(response)) return;
    options.onDropped();
    response.destroy();
  }

  function send(response: Response, bytes: Buffer | string): void {
    if (response.writableLength > unreadMaxBytes) drop(response);
    else response.write(bytes);
  }

  /** Sends what it has missed, part after part; then it is ready, and hears of each entry as it comes. */
  function catchUp(response: Response, consumer: Consumer): void {
    while (consumers.has(response)) {
      const { epoch, number } = log.cursor();
      const part = log.after(consumer.sentNumber, catchUpEntries);
      consumer.sentNumber = part.at(-1)?.number ?? consumer.sentNumber;
      if (part.length < catchUpEntries) {
        const cursor = formatCursor({ epoch, number: Math.max(number, consumer.sentNumber) });
        const ready = `event: ready\nid: ${cursor}\ndata: {"as_of":${toNumericDate(log.asOfMs())}}\n\n`;
        consumer.catchingUpBeats = undefined;
        response.write(part.map((entry) => formatEvent(entry, epoch)).join("") + ready);
        return;
      }
      consumer.catchingUpBeats = 0;
      if (!response.write(part.map((entry) => formatEvent(entry, epoch)).join(""))) {
        response.once("drain", () => catchUp(response, consumer));
        return;
      }
    }
  }

  function endAll(): void {
    for (const response of consumers.keys()) {
      response.end();
      setTimeout(() => response.destroy(), endingMs).unref();
    }
    consumers.clear();
  }

  function refuseTooMany(block: string): void {
    const fromHere = [...consumers.values()].filter(({ addressBlock }) => addressBlock === block).length;
    if (closed || consumers.size >= limit || fromHere >= limitPerAddress) {
      throw unavailable("No more streams are served here: poll the snapshot.");
    }
  }

  return {
    handler(request, response) {
      if (!log.isLoaded()) throw unavailable("The revocations are being loaded.");
      const block = addressBlock(canonicalAddress(request.ip ?? ""));
      refuseTooMany(block);
      response.writeHead(200, {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-store, no-transform",
        "X-Accel-Buffering": "no",
      });
      if (request.method === "HEAD") {
        response.end();
        return;
      }
      const last = parseCursor(request.get("last-event-id") ?? "");
      const sentNumber = last?.epoch === log.cursor().epoch ? last.number : 0;
      const consumer: Consumer = { addressBlock: block, sentNumber, catchingUpBeats: undefined };
      consumers.set(response, consumer);
      response.once("close", () => consumers.delete(response));
      catchUp(response, consumer);
    },
    close() {
      closed = true;
      clearInterval(heartbeat);
      unsubscribe();
      endAll();
    },
    consumers: () => consumers.size,
  };
}
