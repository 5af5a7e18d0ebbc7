/** Stock consumers that differ in when they read the JWKS again, with durations that fit a rotation of seconds. */

import { JwtVerifier } from "aws-jwt-verify";
import { SimpleJwksCache, SimplePenaltyBox } from "aws-jwt-verify/jwk";
import { createRemoteJWKSet, jwtVerify, type RemoteJWKSetOptions } from "jose";

export interface CachingConsumer {
  readonly name: string;
  readonly caches: boolean;
  /** Throws whatever the library throws. */
  verify(token: string): Promise<unknown>;
}

export interface Expected {
  readonly issuer: string;
  readonly audience: string;
}

/** `staleMs`: how long each may go on with the keys it has read, whatever it meets; 30 s is usual. */
export function createCachingConsumers(jwksUrl: URL, expected: Expected, staleMs: number): CachingConsumer[] {
  const never = Number.POSITIVE_INFINITY;
  return [
    {
      name: "jose: at an unknown kid, with a cooldown",
      caches: true,
      verify: joseVerify(jwksUrl, expected, { cooldownDuration: staleMs }),
    },
    {
      name: "jose: at fixed intervals only",
      caches: true,
      verify: joseVerify(jwksUrl, expected, { cooldownDuration: never, cacheMaxAge: staleMs }),
    },
    {
      name: "aws-jwt-verify: at an unknown kid, with a penalty box",
      caches: true,
      verify: awsVerify(jwksUrl, expected, staleMs),
    },
    {
      name: "jose: every time",
      caches: false,
      verify: (token) => joseVerify(jwksUrl, expected, {})(token),
    },
  ];
}

function joseVerify(jwksUrl: URL, expected: Expected, options: RemoteJWKSetOptions) {
  const keys = createRemoteJWKSet(jwksUrl, options);
  return (token: string) => jwtVerify(token, keys, { ...expected });
}

/** By itself it fetches over https alone, so it is given another fetcher. */
function awsVerify(jwksUrl: URL, expected: Expected, waitMs: number) {
  const fetcher = { fetch: async (url: string) => (await fetch(url)).arrayBuffer() };
  const penaltyBox = new SimplePenaltyBox({ waitSeconds: waitMs / 1000 });
  const verifier = JwtVerifier.create(
    { ...expected, jwksUri: jwksUrl.href },
    { jwksCache: new SimpleJwksCache({ fetcher, penaltyBox }) },
  );
  return (token: string) => verifier.verify(token);
}
