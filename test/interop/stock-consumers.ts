/** Widely used token verifiers, each set up as its own documentation says and with its own defaults. */

import { createPublicKey } from "node:crypto";
import { JwtVerifier } from "aws-jwt-verify";
import { SimpleFetcher } from "aws-jwt-verify/https";
import { SimpleJwksCache } from "aws-jwt-verify/jwk";
import { createVerifier } from "fast-jwt";
import buildGetJwks from "get-jwks";
import { createRemoteJWKSet, jwtVerify } from "jose";
import * as oauth from "oauth4webapi";
import type { TlsFront } from "./tls-front.ts";

/** All that a resource server is told. */
export interface Trust {
  readonly issuer: string;
  readonly audience: string;
  /** In front of the issuer, for the one that fetches over https alone. */
  readonly tlsFront: TlsFront;
}

export interface StockConsumer {
  /** The token's subject; throws whatever the library throws. */
  verify(token: string): Promise<unknown>;
  close(): Promise<void>;
}

const nothingToClose = { close: () => Promise.resolve() };

export async function jose({ issuer, audience }: Trust): Promise<StockConsumer> {
  const keys = createRemoteJWKSet(new URL(`${issuer}/.well-known/jwks.json`));
  return {
    ...nothingToClose,
    async verify(token) {
      const { payload } = await jwtVerify(token, keys, { issuer, audience });
      return payload.sub;
    },
  };
}

export async function awsJwtVerify({ issuer, audience, tlsFront }: Trust): Promise<StockConsumer> {
  const fetcher = new SimpleFetcher({ defaultRequestOptions: { ...tlsFront.clientOptions } });
  const verifier = JwtVerifier.create(
    { issuer, audience, jwksUri: `${tlsFront.url}/.well-known/jwks.json` },
    { jwksCache: new SimpleJwksCache({ fetcher }) },
  );
  return {
    ...nothingToClose,
    async verify(token) {
      return (await verifier.verify(token)).sub;
    },
  };
}

/** `getPublicKey`, which its documentation shows, cannot convert an OKP key; `getJwk` leaves that to Node. */
export async function fastJwtWithGetJwks({ issuer, audience }: Trust): Promise<StockConsumer> {
  const getJwks = buildGetJwks({ issuersWhitelist: [issuer], providerDiscovery: true });
  const verify = createVerifier({
    allowedIss: issuer,
    allowedAud: audience,
    async key({ header }: { header: Record<string, string> }) {
      const { kid = "", alg = "" } = header;
      const jwk = await getJwks.getJwk({ kid, alg, domain: issuer });
      return createPublicKey({ key: jwk, format: "jwk" }).export({ type: "spki", format: "pem" });
    },
  });
  return {
    ...nothingToClose,
    async verify(token) {
      return (await verify(token)).sub;
    },
  };
}

/** `algorithm` is where it looks for the metadata: OpenID Connect's place, or RFC 8414's. */
export async function oauth4webapi(
  { issuer, audience }: Trust,
  algorithm: "oidc" | "oauth2",
): Promise<StockConsumer> {
  const overHttp = { [oauth.allowInsecureRequests]: true };
  const issuerUrl = new URL(issuer);
  const response = await oauth.discoveryRequest(issuerUrl, { algorithm, ...overHttp });
  const server = await oauth.processDiscoveryResponse(issuerUrl, response);
  return {
    ...nothingToClose,
    async verify(token) {
      const request = new Request("https://api.example/orders", {
        headers: { authorization: `Bearer ${token}` },
      });
      return (await oauth.validateJwtAccessToken(server, request, audience, overHttp)).sub;
    },
  };
}
