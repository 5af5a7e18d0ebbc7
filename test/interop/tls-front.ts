/** HTTPS in front of an instance, as a load balancer would be, for consumers that fetch over nothing else. */

import { randomBytes } from "node:crypto";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { ConnectionOptions } from "node:tls";

export interface TlsFront {
  /** `https://localhost:PORT` */
  readonly url: string;
  /** How a client connects: a shared key saves making a certificate. */
  readonly clientOptions: ConnectionOptions;
  close(): Promise<void>;
}

/** Passes GET requests on. */
export async function startTlsFront(targetUrl: string): Promise<TlsFront> {
  const psk = randomBytes(32);
  const pskOnly = { ciphers: "PSK+HIGH", maxVersion: "TLSv1.2" } as const;
  const server = createServer({ ...pskOnly, pskCallback: () => psk }, async (request, response) => {
    const answer = await fetch(targetUrl + request.url, { headers: { "accept-encoding": "identity" } });
    response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "" });
    response.end(Buffer.from(await answer.arrayBuffer()));
  });
  await new Promise<void>((resolve) => server.listen(0, "localhost", resolve));
  return {
    url: `https://localhost:${(server.address() as AddressInfo).port}`,
    clientOptions: {
      ...pskOnly,
      pskCallback: () => ({ psk, identity: "test" }),
      checkServerIdentity: () => undefined,
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
