/** One dedicated connection that hears NOTIFY, and proves to itself again and again that it does. */

import { randomUUID } from "node:crypto";
import pg from "pg";
import type { Pool } from "./pool.ts";

export interface Listener {
  /** Whether the last probe came back: false behind a transaction pooler, which forgets LISTEN silently. */
  isHearing(): boolean;
  close(): Promise<void>;
}

export interface ListenOptions {
  /** Straight to Postgres, not through a transaction pooler. */
  readonly url: string;
  /** Sends the probes, so that a probe that arrives proves LISTEN and not only the connection. */
  readonly pool: Pool;
  readonly channels: readonly string[];
  onNotification(channel: string, payload: string): void;
  /** Whatever came while we were deaf was not heard: time to read. */
  onConnected(): void;
  /** A probe came back: notifications arrive, and did not before. */
  onHearing(): void;
  /** Told once, until notifications have been heard again: behind a pooler every connection is lost. */
  onLost(reason: string): void;
  readonly probeEveryMs?: number;
  readonly probeTimeoutMs?: number;
}

const probeChannel = "keyfleet_probe";
const longestRetryMs = 5000;

/** Connects, and reconnects with backoff and jitter until closed. Notifications are hints: the log is the truth. */
export function startListening(options: ListenOptions): Listener {
  const { probeEveryMs = 5000, probeTimeoutMs = 2000 } = options;
  const listenerId = randomUUID();
  let client: pg.Client | undefined;
  let closed = false;
  let hearing = false;
  let lossIsTold = false;
  let failures = 0;
  let probeNumber = 0;
  let retryTimer: NodeJS.Timeout | undefined;
  let probeTimer: NodeJS.Timeout | undefined;
  let probeDeadline: NodeJS.Timeout | undefined;

  function retry(): void {
    if (closed) return;
    const backoffMs = Math.min(longestRetryMs, 100 * 2 ** failures) * (0.5 + Math.random() / 2);
    failures += 1;
    retryTimer = setTimeout(connect, backoffMs);
    retryTimer.unref();
  }

  function drop(dropped: pg.Client, reason: string): void {
    if (client !== dropped) return;
    client = undefined;
    hearing = false;
    clearTimeout(probeTimer);
    clearTimeout(probeDeadline);
    destroy(dropped);
    if (!lossIsTold) options.onLost(reason);
    lossIsTold = true;
    retry();
  }

  function probe(probed: pg.Client): void {
    if (client !== probed) return;
    probeNumber += 1;
    probeDeadline = setTimeout(() => drop(probed, `no probe within ${probeTimeoutMs} ms`), probeTimeoutMs);
    probeDeadline.unref();
    const payload = `${listenerId} ${probeNumber}`;
    options.pool.query("select pg_catalog.pg_notify($1, $2)", [probeChannel, payload]).catch(() => undefined);
  }

  function heardProbe(probed: pg.Client, payload: string): void {
    if (payload !== `${listenerId} ${probeNumber}`) return;
    clearTimeout(probeDeadline);
    lossIsTold = false;
    failures = 0;
    if (!hearing) {
      hearing = true;
      options.onHearing();
    }
    clearTimeout(probeTimer);
    probeTimer = setTimeout(probe, probeEveryMs, probed);
    probeTimer.unref();
  }

  async function connect(): Promise<void> {
    const connecting = createClient(options.url);
    connecting.on("error", (error) => drop(connecting, error.message));
    connecting.on("end", () => drop(connecting, "the connection ended"));
    connecting.on("notification", ({ channel, payload = "" }) => {
      if (channel === probeChannel) heardProbe(connecting, payload);
      else options.onNotification(channel, payload);
    });
    try {
      await connecting.connect();
      for (const channel of [...options.channels, probeChannel]) {
        await connecting.query(`listen ${connecting.escapeIdentifier(channel)}`);
      }
    } catch {
      destroy(connecting);
      return retry();
    }
    if (closed) return destroy(connecting);
    client = connecting;
    options.onConnected();
    probe(connecting);
  }

  void connect();
  return {
    isHearing: () => hearing,
    async close() {
      closed = true;
      for (const timer of [retryTimer, probeTimer, probeDeadline]) clearTimeout(timer);
      const closing = client;
      client = undefined;
      await closing?.end().catch(() => undefined);
    },
  };
}

/** The server, too, gives a peer up that stopped answering: nobody else would end its backend. */
function createClient(url: string): pg.Client {
  return new pg.Client({
    connectionString: url,
    application_name: "keyfleet-listen",
    keepAlive: true,
    keepAliveInitialDelayMillis: 5000,
    connectionTimeoutMillis: 3000,
    query_timeout: 3000,
    options: "-c tcp_user_timeout=10000 -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2",
  });
}

/** Ends a connection whose peer may not answer any more, without waiting for it. */
function destroy(client: pg.Client): void {
  client.removeAllListeners();
  client.on("error", () => undefined);
  const { connection } = client as unknown as { connection?: { stream: { destroy(): void } } };
  connection?.stream.destroy();
}
