import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { generateSigningKey } from "../../src/keys/signing-key.ts";
import { accessTokenMaxBytes } from "../../src/protocol/access-token.ts";
import {
  type AccessTokenGrant,
  accessTokenClaims,
  createJti,
  fitsAccessToken,
} from "../../src/tokens/access-token.ts";

const grant: AccessTokenGrant = {
  issuer: "https://id.example",
  subject: "00000000-0000-4000-8000-000000000001",
  audience: "https://api.example",
  clientId: "first-party",
  scope: "orders:read",
  sessionId: "00000000-0000-4000-8000-000000000002",
  jti: createJti(),
  authTimeMs: 1_700_000_000_999,
};

test("times are whole seconds of the issuing statement's reading", () => {
  const claims = accessTokenClaims(grant, 1_700_000_000_999, 900_000);
  expect(claims).toMatchObject({
    iat: 1_700_000_000,
    nbf: 1_700_000_000,
    exp: 1_700_000_900,
    auth_time: 1_700_000_000,
  });
});

test("a sign-in is never later than the token", () => {
  expect(
    accessTokenClaims({ ...grant, authTimeMs: 1_700_000_001_200 }, 1_700_000_000_900, 1000).auth_time,
  ).toBe(1_700_000_000);
});

test("without a person there is no auth_time", () => {
  const { authTimeMs: _, ...client } = grant;
  expect(accessTokenClaims(client, 0, 1000)).not.toHaveProperty("auth_time");
});

test("what is said to fit does fit into 1 KiB, and what does not is not much larger", () => {
  const key = generateSigningKey("Ed25519");
  fc.assert(
    fc.property(fc.string({ maxLength: 500 }), fc.string({ maxLength: 200 }), (scope, audience) => {
      const candidate = { ...grant, scope, audience };
      const size = key.signAccessToken(accessTokenClaims(candidate, 1_700_000_000_000, 900_000)).length;
      if (fitsAccessToken(candidate)) expect(size).toBeLessThanOrEqual(accessTokenMaxBytes);
      else expect(size).toBeGreaterThan(accessTokenMaxBytes - 8);
    }),
  );
});
