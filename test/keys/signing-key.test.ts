import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, test } from "@jest/globals";
import { compactVerify, importJWK } from "jose";
import { generateSigningKey, thumbprint } from "../../src/keys/signing-key.ts";
import type { AccessTokenClaims } from "../../src/protocol/access-token.ts";

const claims: AccessTokenClaims = {
  iss: "https://id.example",
  sub: "someone",
  aud: "https://api.example",
  exp: 2,
  iat: 1,
  nbf: 1,
  jti: "jti",
  client_id: "first-party",
  scope: "",
  rid: "session",
};

test("the thumbprint is RFC 8037's (appendix A.3)", () => {
  expect(thumbprint("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")).toBe(
    "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
  );
});

describe.each(["EdDSA", "Ed25519"] as const)("a signing key of alg %s", (alg) => {
  test("signs what a stock library verifies", async () => {
    const key = generateSigningKey(alg);
    const token = key.signAccessToken(claims);
    const publicKey = await importJWK({ kty: "OKP", crv: "Ed25519", x: key.x }, alg);
    const { payload, protectedHeader } = await compactVerify(token, publicKey);
    expect(protectedHeader).toEqual({ alg, typ: "at+jwt", kid: key.kid });
    expect(JSON.parse(new TextDecoder().decode(payload))).toEqual(claims);
  });

  test("is named by the thumbprint of its public half", () => {
    const key = generateSigningKey(alg);
    expect(key.kid).toBe(thumbprint(key.x));
  });

  test("signs nothing once it is destroyed", () => {
    const key = generateSigningKey(alg);
    key.destroy();
    expect(() => key.signAccessToken(claims)).toThrow("destroyed");
  });

  test("shows no private part", () => {
    const key = generateSigningKey(alg);
    expect(Object.keys(key).sort()).toEqual(["alg", "destroy", "kid", "signAccessToken", "x"]);
  });
});

test("thousands are made while the garbage collector runs all the time, and the process goes on", async () => {
  const script = `
    const { generateSigningKey } = await import("${new URL("../../dist/keys/signing-key.js", import.meta.url)}");
    for (let count = 0; count < 5000; count += 1) generateSigningKey("EdDSA");
    console.log("done");`;
  const flags = ["--max-semi-space-size=1", "--input-type=module", "--eval", script];
  const env = { PATH: process.env["PATH"] };
  const { stdout } = await promisify(execFile)(process.execPath, flags, { env, timeout: 15_000 });
  expect(stdout).toBe("done\n");
});
