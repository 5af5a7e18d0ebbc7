/** Tokens that nobody of the fleet signed. */

import { randomUUID } from "node:crypto";
import { thumbprint } from "../../src/keys/signing-key.ts";
import type { AccessTokenClaims } from "../../src/protocol/access-token.ts";

/** Points under which anyone can make a signature that many verifiers take: `x` of a JWK. */
export const lowOrderX = {
  identity: Buffer.from("01".padEnd(64, "0"), "hex").toString("base64url"),
  orderTwo: Buffer.from(`ec${"f".repeat(60)}7f`, "hex").toString("base64url"),
};

/** What a token of the fleet would say now. */
export function claimsNow(issuer: string): AccessTokenClaims {
  const iat = Math.floor(Date.now() / 1000);
  const [sub, jti, rid] = [randomUUID(), randomUUID(), randomUUID()];
  return {
    iss: issuer,
    sub,
    aud: issuer,
    exp: iat + 600,
    iat,
    nbf: iat,
    jti,
    client_id: "first-party",
    scope: "",
    rid,
  };
}

/** Good under the identity point, whatever it says: no private key is needed. */
export function lowOrderToken(x: string, claims: AccessTokenClaims): string {
  const header = { alg: "EdDSA", typ: "at+jwt", kid: thumbprint(x) };
  const signature = Buffer.concat([Buffer.from(x, "base64url"), Buffer.alloc(32)]);
  const encoded = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"));
  return [...encoded, signature.toString("base64url")].join(".");
}
