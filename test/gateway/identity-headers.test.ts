/** Claims as header values: whatever an issuer signs, no claim ends a header, begins another, or is left out. */

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { createGateway } from "../../src/gateway/gateway.ts";
import { createGatewayMetrics } from "../../src/gateway/gateway-metrics.ts";
import { createLogger } from "../../src/logger.ts";
import { createVerifier } from "../../src/verifier/index.ts";
import { audience, createForger, type Forger, makeKey } from "../verifier/forger.ts";
import { type SmallIssuer, startSmallIssuer } from "../verifier/small-issuer.ts";

const nowSeconds = 1_800_000_000;
const now = () => nowSeconds * 1000;
let issuer: SmallIssuer;
let forger: Forger;
let server: Server;

beforeAll(async () => {
  issuer = await startSmallIssuer({ now });
  const key = makeKey(nowSeconds + 3000);
  issuer.serveKey(key.kid, { jwk: key.jwk() });
  forger = createForger(issuer.url, key, nowSeconds);
  // Without revocations a token need not have a session.
  const verifier = createVerifier({ issuer: issuer.url, audience, revocation: null, now });
  const logger = createLogger({ level: "silent", readable: false });
  const metrics = createGatewayMetrics(() => 0);
  server = createServer(createGateway({ verifier, logger, metrics, isReady: () => true }));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await issuer.close();
});

async function identityOf(claims: Readonly<Record<string, unknown>>) {
  const { port } = server.address() as AddressInfo;
  const authorization = `Bearer ${forger.forge({ claims })}`;
  const answer = await fetch(`http://127.0.0.1:${port}/verify`, { headers: { authorization } });
  expect(answer.status).toBe(200);
  return Object.fromEntries([...answer.headers].filter(([name]) => name.startsWith("x-auth-")));
}

test.each([
  ["a b~!", "a b~!"],
  ["x\r\nX-Auth-Scope: admin", "x%0D%0AX-Auth-Scope: admin"],
  ["x\u0000\u007f\t", "x%00%7F%09"],
  ["Zoë", "Zo%C3%AB"],
  ["\u{1f511}", "%F0%9F%94%91"],
  ["", ""],
])("the claim %j is sent as %j, under every name", async (claim, sent) => {
  const claims = { sub: claim, scope: claim, rid: claim, client_id: claim };
  expect(await identityOf(claims)).toEqual({
    "x-auth-subject": sent,
    "x-auth-scope": sent,
    "x-auth-session": sent,
    "x-auth-client": sent,
  });
});

test("half a character is sent as the sign for what is none", async () => {
  expect((await identityOf({ sub: "x\ud800" }))["x-auth-subject"]).toBe("x%EF%BF%BD");
});

test("what a token has not is sent empty: a header that is left out could be the caller's", async () => {
  const identity = await identityOf({ rid: undefined, scope: undefined });
  expect(Object.keys(identity)).toHaveLength(4);
  expect([identity["x-auth-session"], identity["x-auth-scope"]]).toEqual(["", ""]);
});
