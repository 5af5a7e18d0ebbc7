/** express-oauth2-jwt-bearer: apart from the others, for it declares the same member of a request as our verifier does. */

import type { AddressInfo } from "node:net";
import express from "express";
import { auth } from "express-oauth2-jwt-bearer";
import type { StockConsumer, Trust } from "./stock-consumers.ts";

/** A small API of its own, asked over HTTP; what it refuses is thrown as the challenge that it answered with. */
export async function expressOauth2JwtBearer({ issuer, audience }: Trust): Promise<StockConsumer> {
  const app = express();
  // Its default handler prints every refusal.
  app.set("env", "test");
  app.use(auth({ issuerBaseURL: issuer, audience }));
  app.get("/orders", (request, response) => {
    response.json(request.auth?.payload.sub);
  });
  const server = app.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    async verify(token) {
      const headers = { authorization: `Bearer ${token}` };
      const response = await fetch(`http://127.0.0.1:${port}/orders`, { headers });
      if (!response.ok) throw new Error(response.headers.get("www-authenticate") ?? String(response.status));
      return response.json();
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
