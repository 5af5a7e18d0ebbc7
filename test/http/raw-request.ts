/** HTTP as bytes: requests that fetch would not send, and answers as they came over the wire, codings included. */

import { once } from "node:events";
import { Agent, type IncomingHttpHeaders, request } from "node:http";
import { connect } from "node:net";
import { text } from "node:stream/consumers";

export interface RawAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface RawRequest {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
}

/** Keeps connections, so that what is measured is not the making of them. */
const agent = new Agent({ keepAlive: true });

/** Any method, any path as it is written, nothing decoded; header values are sent as Latin-1. */
export function sendRequest(url: string, target: string, options: RawRequest = {}): Promise<RawAnswer> {
  const { method = "GET", headers = {}, body } = options;
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const outgoing = request({ agent, hostname, port, path: target, method, headers }, (incoming) => {
      const chunks: Buffer[] = [];
      incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
      incoming.on("error", reject);
      incoming.on("end", () => {
        const { statusCode = 0, headers: answered } = incoming;
        resolve({ status: statusCode, headers: answered, body: Buffer.concat(chunks) });
      });
    });
    outgoing.on("error", reject);
    // A string would be joined to the headers, and those then be encoded as UTF-8.
    outgoing.end(body === undefined ? undefined : Buffer.from(body));
  });
}

/** Writes exactly these bytes (as Latin-1) on a connection of its own, and returns all that comes until it closes. */
export async function sendBytes(url: string, bytes: string): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.setTimeout(10_000, () => socket.destroy(new Error("the connection was not closed in time")));
  socket.write(bytes, "latin1");
  return text(socket);
}

/** A GET request line and headers, for `sendBytes`; the server closes after its answer. */
export function getBytes(target: string, ...headerLines: string[]): string {
  return [`GET ${target} HTTP/1.1`, "Host: keyfleet", "Connection: close", ...headerLines, "", ""].join(
    "\r\n",
  );
}

/** Sends headers and the beginning of a body, and resets the connection once the server has begun to read it. */
export async function sendAndHangUp(
  url: string,
  headerLines: readonly string[],
  begin: string,
): Promise<void> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.write([...headerLines, "Host: keyfleet", "Expect: 100-continue", "", begin].join("\r\n"));
  await once(socket, "data");
  // Answered after the one before: by then that one is being read.
  await sendRequest(url, "/healthz");
  socket.resetAndDestroy();
}
