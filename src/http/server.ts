/** Listening sockets, with timeouts so that neither a slow client nor a flood of headers can hold the process. */

import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";

export interface HttpServer {
  readonly port: number;
  /** Takes no new connections, lets requests under way end, and cuts what is left after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

/** Port 0 picks a free one. Throws where the port is taken, and what the system throws. */
export async function listen(listener: RequestListener, host: string, port: number): Promise<HttpServer> {
  const server = createServer(
    {
      // Longer than the idle timeout of common balancers (60 s), which otherwise reuse a connection that just closed.
      keepAliveTimeout: 65_000,
      headersTimeout: 10_000,
      requestTimeout: 20_000,
      connectionsCheckingInterval: 2_000,
      maxHeaderSize: 16 * 1024,
    },
    listener,
  );
  server.maxRequestsPerSocket = 10_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const taken = error.code === "EADDRINUSE";
      reject(taken ? new Error(`port ${port} of ${host} is in use`, { cause: error }) : error);
    });
    server.listen(port, host, resolve);
  });
  return { port: (server.address() as AddressInfo).port, close: (graceMs) => close(server, graceMs) };
}

async function close(server: Server, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const cut = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearTimeout(cut);
}
