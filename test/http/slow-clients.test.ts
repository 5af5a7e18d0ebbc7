import { once } from "node:events";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, expect, test } from "@jest/globals";
import { type ClientTimeouts, clientTimeouts, type HttpServer, listen } from "../../src/http/server.ts";

const short = {
  keepAliveTimeout: 1000,
  headersTimeout: 200,
  requestTimeout: 400,
  connectionsCheckingInterval: 50,
};

/** What each sends at once, and then again and again; it never ends. */
const slowClients: [string, string, string][] = [
  ["says nothing", "", ""],
  ["never ends its headers", "GET / HTTP/1.1\r\nHost: x\r\n", "X-More: a\r\n"],
  ["never ends its body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n", "a"],
  ["never ends its chunks", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n"],
];

let server: HttpServer;
afterEach(() => server.close(0));

/** Answers once a request has arrived whole. */
async function start(timeouts: ClientTimeouts): Promise<void> {
  server = await listen(
    (request, response) => {
      request.on("error", () => undefined);
      request.resume().on("end", () => response.end("whole"));
    },
    "127.0.0.1",
    0,
    timeouts,
  );
}

/** A slow client; `answer` is all that it is told until its connection is closed. */
async function drip(first: string, more: string) {
  const socket = connect(server.port, "127.0.0.1");
  await once(socket, "connect");
  socket.on("error", () => undefined);
  socket.write(first);
  const timer = setInterval(() => socket.write(more), 20);
  socket.once("close", () => clearInterval(timer));
  return { socket, answer: text(socket).catch(() => "") };
}

test.each(slowClients)("a client that %s is answered 408 and cut off", async (_, first, more) => {
  await start(short);
  const { answer } = await drip(first, more);
  const wholesome = await fetch(`http://127.0.0.1:${server.port}/`, { method: "POST", body: "a" });
  expect(await wholesome.text()).toBe("whole");
  expect(await answer).toMatch(/^HTTP\/1\.1 408 .*\r\n\r\n\{"error":"invalid_request",.*\}$/s);
});

test("control: without the timeouts they all hold their connections", async () => {
  await start({ ...short, headersTimeout: 0, requestTimeout: 0 });
  const clients = await Promise.all(slowClients.map(([, first, more]) => drip(first, more)));
  await new Promise((resolve) => setTimeout(resolve, 2 * short.requestTimeout));
  expect(clients.map(({ socket }) => socket.closed)).toEqual(slowClients.map(() => false));
  for (const { socket } of clients) socket.destroy();
});

test("the timeouts that are served with end any of them within 22 seconds", () => {
  const { headersTimeout, requestTimeout, connectionsCheckingInterval } = clientTimeouts;
  for (const timeout of [headersTimeout, requestTimeout]) {
    expect(timeout).toBeGreaterThan(0);
    expect(timeout + connectionsCheckingInterval).toBeLessThanOrEqual(22_000);
  }
});
