/** The JWKS as an identity provider would serve it that publishes each key only when it first signs. */

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface LateJwksFront {
  readonly jwksUrl: URL;
  /** The key has signed: from now on it is shown. */
  show(kid: string): void;
  close(): Promise<void>;
}

/** Whatever the instance serves, but for the keys that have not signed yet. */
export async function startLateJwksFront(jwksUrl: URL): Promise<LateJwksFront> {
  const shown = new Set<string>();
  const server = createServer(async (_request, response) => {
    const { keys } = (await (await fetch(jwksUrl)).json()) as { keys: { kid: string }[] };
    response.setHeader("content-type", "application/jwk-set+json");
    response.end(JSON.stringify({ keys: keys.filter(({ kid }) => shown.has(kid)) }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    jwksUrl: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`),
    show(kid) {
      shown.add(kid);
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
