/** A TCP proxy in front of Postgres that counts what the instance sends, every query a message or more, and what it hears. */

import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export interface CountingProxy {
  /** The database's url, through the proxy. */
  readonly url: string;
  /** Messages from the instance so far; one query in flight on a connection means at least one of them. */
  messages(): number;
  /** Messages to the instance so far, notifications among them. */
  answers(): number;
  close(): Promise<void>;
}

export async function startCountingProxy(
  databaseUrl: string,
  onSent: (text: string) => void = () => undefined,
): Promise<CountingProxy> {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  let messages = 0;
  let answers = 0;
  const server = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname);
    client.on("data", (bytes) => {
      messages += 1;
      onSent(bytes.toString("latin1"));
    });
    upstream.on("data", () => {
      answers += 1;
    });
    client.pipe(upstream).pipe(client);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = new URL(databaseUrl);
  url.hostname = "127.0.0.1";
  url.port = String((server.address() as AddressInfo).port);

  return {
    url: url.href,
    messages: () => messages,
    answers: () => answers,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
