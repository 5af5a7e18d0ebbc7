/** Listening sockets, with timeouts so that neither a slow client nor a flood of headers can hold the process. */

import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { HttpRefusal, sendRefusal } from "./error-response.ts";

export interface HttpServer {
  readonly port: number;
  /** Takes no new connections, lets requests under way end, and cuts what is left after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

/** The address or the port cannot be listened on: a wrong setting. */
export class ListenError extends Error {}

/** In milliseconds, by Node's names. */
export type ClientTimeouts = Readonly<
  Record<"keepAliveTimeout" | "headersTimeout" | "requestTimeout" | "connectionsCheckingInterval", number>
>;

export const clientTimeouts: ClientTimeouts = {
  // Longer than the idle timeout of common balancers (60 s), which otherwise reuse a connection that just closed.
  keepAliveTimeout: 65_000,
  headersTimeout: 10_000,
  requestTimeout: 20_000,
  connectionsCheckingInterval: 2_000,
};

/** Port 0 picks a free one. Throws `ListenError`. */
export async function listen(
  listener: RequestListener,
  host: string,
  port: number,
  timeouts = clientTimeouts,
): Promise<HttpServer> {
  const server = createServer({ ...timeouts, maxHeaderSize: 16 * 1024 }, listener);
  server.maxRequestsPerSocket = 10_000;
  server.on("clientError", refuseUnparsed);
  server.on("checkExpectation", (_request, response) => {
    sendRefusal(response, new HttpRefusal(417, "The expectation cannot be met."));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const reason = error.code === "EADDRINUSE" ? "is in use" : `cannot be listened on: ${error.code}`;
      reject(new ListenError(`port ${port} of ${host} ${reason}`, { cause: error }));
    });
    server.listen(port, host, resolve);
  });
  return { port: (server.address() as AddressInfo).port, close: (graceMs) => close(server, graceMs) };
}

/** What Node cannot parse never becomes a request: it is answered on the bare connection. */
function refuseUnparsed(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, description] = unparsed[error.code ?? ""] ?? [
    "400 Bad Request",
    "The request is malformed.",
  ];
  const body = JSON.stringify({ error: "invalid_request", error_description: description });
  socket.end(
    `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

const unparsed: Readonly<Record<string, readonly [string, string]>> = {
  HPE_HEADER_OVERFLOW: ["431 Request Header Fields Too Large", "The header fields are larger than 16 KiB."],
  ERR_HTTP_REQUEST_TIMEOUT: ["408 Request Timeout", "The request took too long to arrive."],
};

async function close(server: Server, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  // A connection that was busy then is idle after its answer, and would be kept alive.
  const sweep = setInterval(() => server.closeIdleConnections(), 50);
  const cut = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearInterval(sweep);
  clearTimeout(cut);
}
