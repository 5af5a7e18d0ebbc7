/** A TCP proxy in front of Postgres whose network can be taken away. */

import type { Socket } from "node:net";
import { reset, startProxyServer } from "./proxy-server.ts";

/**
 * `pass`: as if it were not there. `refuse`: every connection is reset. `hang`: nothing gets through, nothing ends.
 * `half-open`: what the client sends arrives, and no answer comes back, so that it cannot know what was done.
 */
export type ProxyMode = "pass" | "refuse" | "hang" | "half-open";

export interface TcpProxy {
  /** The database's url, through the proxy. */
  readonly url: string;
  /** Also changes connections that are open: `refuse` resets them, `hang` stops their bytes. */
  setMode(mode: ProxyMode): void;
  /** Every packet takes the time that it is given, both ways; bytes keep their order. Undefined: none. */
  setDelay(ofPacketMs: (() => number) | undefined): void;
  /** Resets all open connections. */
  cut(): void;
  close(): Promise<void>;
}

export async function startTcpProxy(databaseUrl: string): Promise<TcpProxy> {
  let mode: ProxyMode = "pass";
  let delayMs: (() => number) | undefined;

  const { url, cut, close } = await startProxyServer(databaseUrl, (client, openUpstream) => {
    if (mode === "refuse") return reset(client);
    const upstream = openUpstream();
    const forward = (from: Socket, to: Socket, passes: () => boolean) => {
      let underWay = 0;
      let sent = Promise.resolve();
      const send = (bytes: Buffer) => {
        // While the network hangs, bytes are read and lost: neither side learns of it.
        if (passes() && to.writable) to.write(bytes);
      };
      from.on("data", (bytes: Buffer) => {
        if (delayMs === undefined && underWay === 0) return send(bytes);
        const ms = delayMs?.() ?? 0;
        const delay = new Promise((resolve) => setTimeout(resolve, ms));
        underWay += 1;
        sent = sent
          .then(() => delay)
          .then(() => {
            underWay -= 1;
            send(bytes);
          });
      });
      from.on("close", () => {
        if (mode === "pass") void sent.then(() => to.destroy());
      });
    };
    forward(client, upstream, () => mode === "pass" || mode === "half-open");
    forward(upstream, client, () => mode === "pass");
  });

  return {
    url,
    setMode(next) {
      // What was lost while it hung never arrives: those connections are broken for good.
      if (mode === "hang" || mode === "half-open" || next === "refuse") cut();
      mode = next;
    },
    setDelay(ofPacketMs) {
      delayMs = ofPacketMs;
    },
    cut,
    close,
  };
}
