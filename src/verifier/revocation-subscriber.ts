/** Keeps the revoked set up with the issuer: by its stream, and by polling its snapshot while there is none. */

import type { RevocationEvent, RevocationSnapshot } from "../protocol/revocation-event.ts";
import { parseCursor } from "../protocol/revocation-event.ts";
import type { Discovery } from "./discovery.ts";
import { readEvents, type ServerSentEvent } from "./event-stream.ts";
import { chunksOf, fetchJson } from "./fetch-json.ts";
import type { VerifierEvent, VerifierLogger } from "./options.ts";
import type { RevokedSet } from "./revoked-set.ts";

export interface RevocationSubscriber {
  /** Resolves with the first complete reading. */
  readonly ready: Promise<void>;
  close(): void;
}

export interface RevocationSubscriberOptions {
  readonly discovery: Discovery;
  readonly revoked: RevokedSet;
  readonly fetch: typeof globalThis.fetch;
  readonly onEvent: (event: VerifierEvent) => void;
  readonly logger: VerifierLogger | undefined;
  /** How often the snapshot is asked for while there is no stream. */
  readonly pollEveryMs: number;
  /** A stream whose news get no newer for so long is left for another instance's. */
  readonly standstillMaxMs: number;
  readonly steadyNow: () => number;
}

const snapshotLimits = { timeoutMs: 5000, maxBytes: 64 * 1024 * 1024 };
/** Heartbeats come every second: a stream that says nothing for so long is broken, or held back by something. */
const silenceMs = 5000;
const retryMinMs = 100;
const retryMaxMs = 5000;

export function createRevocationSubscriber(options: RevocationSubscriberOptions): RevocationSubscriber {
  const { discovery, revoked, fetch, onEvent, logger, standstillMaxMs, steadyNow } = options;
  const closing = new AbortController();
  let isStreaming = false;
  let markReady: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => {
    markReady = resolve;
  });

  async function revocationsUri(): Promise<string> {
    const { revocationsUri: uri } = await discovery.endpoints();
    if (uri === undefined) throw new Error("the issuer tells no revocations: set revocation to null");
    return uri;
  }

  function reached(cursor: string): void {
    const before = revoked.cursor()?.epoch;
    revoked.reached(cursor);
    if (before !== undefined && before !== revoked.cursor()?.epoch) onEvent({ type: "epoch_changed" });
  }

  function take({ event, id, data }: ServerSentEvent): void {
    if (event === "revocation") revoked.add(JSON.parse(data) as RevocationEvent);
    else if (event !== "ready" && event !== "heartbeat") return;
    if (id !== undefined) reached(id);
    if (event === "revocation") return;
    revoked.heard((JSON.parse(data) as { as_of: number }).as_of);
    if (event === "ready") {
      isStreaming = true;
      onEvent({ type: "stream_connected" });
      markReady();
    }
  }

  async function stream(): Promise<void> {
    const uri = await revocationsUri();
    closing.signal.throwIfAborted();
    const ending = new AbortController();
    const end = () => ending.abort();
    closing.signal.addEventListener("abort", end);
    let timer = setTimeout(end, silenceMs);
    const beganAtMs = steadyNow();
    const stoodStillMs = () => Math.min(revoked.standsStillForMs(), steadyNow() - beganAtMs);
    try {
      const cursor = revoked.cursor();
      const response = await fetch(`${uri}/stream`, {
        headers: {
          accept: "text/event-stream",
          ...(cursor === undefined ? {} : { "last-event-id": `${cursor.epoch}:${cursor.number}` }),
        },
        redirect: "manual",
        signal: ending.signal,
      });
      if (response.status !== 200) {
        await response.body?.cancel();
        throw new Error(`the stream was answered ${response.status}`);
      }
      const chunks = async function* () {
        for await (const chunk of chunksOf(response, ending.signal)) {
          clearTimeout(timer);
          timer = setTimeout(end, silenceMs);
          yield chunk;
        }
      };
      for await (const event of readEvents(chunks())) {
        take(event);
        if (stoodStillMs() > standstillMaxMs) throw new Error("the stream tells nothing new");
      }
    } finally {
      clearTimeout(timer);
      closing.signal.removeEventListener("abort", end);
      if (isStreaming) onEvent({ type: "stream_lost" });
      isStreaming = false;
    }
  }

  async function poll(): Promise<void> {
    const uri = await revocationsUri();
    const cursor = revoked.cursor();
    const after = cursor === undefined ? "" : `?after=${cursor.epoch}:${cursor.number}`;
    let answer = await fetchJson(fetch, uri + after, snapshotLimits);
    if (answer.status === 410) answer = await fetchJson(fetch, uri, snapshotLimits);
    const snapshot = answer.body as RevocationSnapshot | undefined;
    if (snapshot === undefined || parseCursor(snapshot.cursor) === undefined) {
      throw new Error(`the snapshot was answered ${answer.status}`);
    }
    for (const event of snapshot.events) revoked.add(event);
    reached(snapshot.cursor);
    revoked.heard(snapshot.as_of);
    onEvent({ type: "polling" });
    markReady();
  }

  function pause(durationMs: number): Promise<void> {
    if (closing.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(done, durationMs);
      function done(): void {
        clearTimeout(timer);
        closing.signal.removeEventListener("abort", done);
        resolve();
      }
      closing.signal.addEventListener("abort", done);
      (timer as { unref?: () => void }).unref?.();
    });
  }

  /** A stream that was good is sought again at once, at whichever instance answers; failures wait longer each. */
  async function keepStreaming(): Promise<void> {
    for (let failures = 0; !closing.signal.aborted; failures += 1) {
      const startedWith = revoked.cursor();
      await stream().catch((error: unknown) => {
        if (failures === 3) logger?.warn("the revocation stream cannot be read", { error: String(error) });
      });
      if (revoked.cursor() !== startedWith) failures = 0;
      await pause(Math.min(retryMaxMs, retryMinMs * 2 ** failures) * (0.5 + Math.random() / 2));
    }
  }

  async function keepPolling(): Promise<void> {
    while (!closing.signal.aborted) {
      await pause(options.pollEveryMs);
      if (!isStreaming && !closing.signal.aborted) await poll().catch(() => undefined);
    }
  }

  void keepStreaming();
  void keepPolling();
  return { ready, close: () => closing.abort() };
}
