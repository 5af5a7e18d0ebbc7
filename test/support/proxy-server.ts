/** What the TCP proxies in front of Postgres have in common: a port of their own, and the sockets that are open. */

import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export interface ProxyServer {
  /** The database's url, through the proxy. */
  readonly url: string;
  /** Resets all open connections. */
  cut(): void;
  close(): Promise<void>;
}

/** Not where it is closing already: Node would then never be done with it, and the process not end. */
export function reset(socket: Socket): void {
  if (!socket.destroyed && !socket.connecting && !socket.writableEnded) socket.resetAndDestroy();
  else socket.destroy();
}

/** `onClient` is given every connection, and what opens one to the database for it; a socket that fails is destroyed. */
export async function startProxyServer(
  databaseUrl: string,
  onClient: (client: Socket, openUpstream: () => Socket) => void,
): Promise<ProxyServer> {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();

  function track(socket: Socket): Socket {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
    return socket;
  }

  const server = createServer((client) =>
    onClient(track(client), () => track(connect(Number(target.port), target.hostname))),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = new URL(databaseUrl);
  url.hostname = "127.0.0.1";
  url.port = String((server.address() as AddressInfo).port);
  const cut = () => sockets.forEach(reset);
  return {
    url: url.href,
    cut,
    async close() {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Neither of them outlives the other. */
export function endTogether(client: Socket, upstream: Socket): void {
  client.on("close", () => upstream.destroy());
  upstream.on("close", () => client.destroy());
}
