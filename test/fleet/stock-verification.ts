/** What a stock consumer sees of an instance. */

import { createRemoteJWKSet, type JWTPayload, jwtVerify } from "jose";
import type { Ed25519PublicJwk } from "../../src/protocol/jwk.ts";
import type { TestInstance } from "../support/instance.ts";

/** By kid. */
export async function servedKeys(instance: TestInstance): Promise<ReadonlyMap<string, Ed25519PublicJwk>> {
  const response = await fetch(`${instance.url}/.well-known/jwks.json`);
  const { keys } = (await response.json()) as { keys: Ed25519PublicJwk[] };
  return new Map(keys.map((key) => [key.kid, key]));
}

/** Throws what jose throws. */
export async function verifyThrough(instance: TestInstance, token: string): Promise<JWTPayload> {
  const keys = createRemoteJWKSet(new URL(`${instance.url}/.well-known/jwks.json`));
  return (await jwtVerify(token, keys, { issuer: instance.issuer })).payload;
}
