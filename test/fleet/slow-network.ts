/** A network to Postgres that is slow by a random time, both ways; bytes keep their order. */

import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { reset } from "../support/tcp-proxy.ts";

export interface SlowNetwork {
  /** The database's url, the slow way. */
  readonly url: string;
  close(): Promise<void>;
}

export async function startSlowNetwork(databaseUrl: string, upToMs: number): Promise<SlowNetwork> {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();

  const forward = (from: Socket, to: Socket) => {
    let sent = Promise.resolve<unknown>(undefined);
    sockets.add(from);
    from.on("error", () => from.destroy());
    from.on("close", () => {
      sockets.delete(from);
      to.destroy();
    });
    from.on("data", (bytes) => {
      const delay = new Promise((resolve) => setTimeout(resolve, Math.random() * upToMs));
      sent = sent.then(() => delay).then(() => to.writable && to.write(bytes));
    });
  };
  const server = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname);
    forward(client, upstream);
    forward(upstream, client);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = new URL(databaseUrl);
  url.hostname = "127.0.0.1";
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    async close() {
      for (const socket of sockets) reset(socket);
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
