/** A TCP load balancer before instances, as a fleet has one: connections go round, and past who is gone. */

import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export interface Balancer {
  /** `http://localhost:PORT` */
  readonly url: string;
  /** Where connections go from now on; those that are open stay. */
  setTargets(urls: readonly string[]): void;
  close(): Promise<void>;
}

/** On a free port, or on one that was freed. */
export async function startBalancer(port = 0): Promise<Balancer> {
  let targets: readonly URL[] = [];
  let turn = 0;
  const sockets = new Set<Socket>();

  const track = (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
  };

  function forward(client: Socket, attemptsLeft: number): void {
    const target = targets[turn++ % targets.length];
    if (target === undefined || attemptsLeft === 0) return void client.destroy();
    const upstream = connect(Number(target.port), target.hostname);
    track(upstream);
    const retry = () => forward(client, attemptsLeft - 1);
    upstream.once("error", retry);
    upstream.once("connect", () => {
      upstream.off("error", retry);
      client.pipe(upstream).pipe(client);
      client.on("close", () => upstream.destroy());
      upstream.on("close", () => client.destroy());
    });
  }

  const server = createServer((client) => {
    track(client);
    forward(client, targets.length);
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return {
    url: `http://localhost:${(server.address() as AddressInfo).port}`,
    setTargets(urls) {
      targets = urls.map((url) => new URL(url));
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
