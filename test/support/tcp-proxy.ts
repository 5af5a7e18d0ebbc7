/** A TCP proxy in front of Postgres whose network can be taken away. */

import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** `pass`: as if it were not there. `refuse`: every connection is reset. `hang`: nothing gets through, nothing ends. */
export type ProxyMode = "pass" | "refuse" | "hang";

export interface TcpProxy {
  /** The database's url, through the proxy. */
  readonly url: string;
  /** Also changes connections that are open: `refuse` resets them, `hang` stops their bytes. */
  setMode(mode: ProxyMode): void;
  /** Resets all open connections. */
  cut(): void;
  close(): Promise<void>;
}

/** Not where it is closing already: Node would then never be done with it, and the process not end. */
export function reset(socket: Socket): void {
  if (!socket.destroyed && !socket.connecting && !socket.writableEnded) socket.resetAndDestroy();
  else socket.destroy();
}

export async function startTcpProxy(databaseUrl: string): Promise<TcpProxy> {
  const target = new URL(databaseUrl);
  let mode: ProxyMode = "pass";
  const sockets = new Set<Socket>();

  const track = (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
  };
  const cut = () => sockets.forEach(reset);
  const server = createServer((client) => {
    track(client);
    if (mode === "refuse") return reset(client);
    const upstream = connect(Number(target.port), target.hostname);
    track(upstream);
    const forward = (from: Socket, to: Socket) => {
      // While the network hangs, bytes are read and lost: neither side learns of it.
      from.on("data", (bytes) => {
        if (mode === "pass") to.write(bytes);
      });
      from.on("close", () => {
        if (mode === "pass") to.destroy();
      });
    };
    forward(client, upstream);
    forward(upstream, client);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = new URL(databaseUrl);
  url.hostname = "127.0.0.1";
  url.port = String((server.address() as AddressInfo).port);

  return {
    url: url.href,
    setMode(next) {
      // What was lost while it hung never arrives: those connections are broken for good.
      if (mode === "hang" || next === "refuse") cut();
      mode = next;
    },
    cut,
    async close() {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
