/** RFC 8037 appendix A, by the functions that read keys and tokens here and by those that sign. */

import { createPrivateKey, createPublicKey, sign } from "node:crypto";
import { expect, test } from "@jest/globals";
import { compactVerify } from "jose";
import { thumbprint } from "../../src/keys/signing-key.ts";
import { decodeCompactJws } from "../../src/protocol/compact-jws.ts";
import { parseObject } from "../../src/protocol/json.ts";
import { isLowOrderPoint, kidPattern, thumbprintInput } from "../../src/protocol/jwk.ts";
import { createVerifier } from "../../src/verifier/index.ts";
import { readPublicKey } from "../../src/verifier/public-key.ts";
import { audience, createForger, makeKey } from "./forger.ts";
import { startSmallIssuer } from "./small-issuer.ts";

/** A.1 and A.2. */
const d = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
/** A.3. */
const kid = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
/** A.4. */
const encodedHeader = "eyJhbGciOiJFZERTQSJ9";
const encodedPayload = "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
const signatureHex = [
  "860c98d2297f3060a33f42739672d61b53cf3adefed3d3c672f320dc021b411e",
  "9d59b8628dc351e248b88b29468e0e41855b0fb7d83bb15be902bfccb8cd0a02",
].join("");
const jws = `${encodedHeader}.${encodedPayload}.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg`;

const jwk = { kty: "OKP", crv: "Ed25519", x };
const privateKey = createPrivateKey({ key: { ...jwk, d }, format: "jwk" });

async function readKey() {
  const publicKey = await readPublicKey({ ...jwk, kid }, ["EdDSA"]);
  if (publicKey === undefined) throw new Error("the key was not read");
  return publicKey;
}

test("A.1, A.2: the public key belongs to the private key, and is read; with its private part it is not", async () => {
  expect(createPublicKey(privateKey).export({ format: "jwk" })).toEqual(jwk);
  expect(isLowOrderPoint(Buffer.from(x, "base64url"))).toBe(false);
  expect(await readKey()).toMatchObject({ kid, algorithm: "EdDSA" });
  expect(await readPublicKey({ ...jwk, kid, d }, ["EdDSA"])).toBeUndefined();
});

test("A.3: the thumbprint", async () => {
  expect(thumbprintInput(x)).toBe(
    '{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}',
  );
  expect(thumbprint(x)).toBe(kid);
  expect(kid).toMatch(kidPattern);
  expect(await readPublicKey({ ...jwk, kid: `l${kid.slice(1)}` }, ["EdDSA"])).toBeUndefined();
});

test("A.4: signing makes exactly this signature", () => {
  expect(Buffer.from(encodedPayload, "base64url").toString()).toBe("Example of Ed25519 signing");
  expect(parseObject(Buffer.from(encodedHeader, "base64url").toString())).toEqual({ alg: "EdDSA" });
  const signature = sign(null, Buffer.from(`${encodedHeader}.${encodedPayload}`), privateKey);
  expect(signature.toString("hex")).toBe(signatureHex);
  expect(`${encodedHeader}.${encodedPayload}.${signature.toString("base64url")}`).toBe(jws);
});

test("A.5: the signature verifies under the key as it was read, and no other does", async () => {
  const { key } = await readKey();
  const { payload } = await compactVerify(jws, key, { algorithms: ["EdDSA"] });
  expect(Buffer.from(payload).toString()).toBe("Example of Ed25519 signing");
  const forged = jws.replace(".hgyY", ".hgyZ");
  await expect(compactVerify(forged, key, { algorithms: ["EdDSA"] })).rejects.toThrow();
});

test("the example is no access token: its payload is no JSON", () => {
  expect(decodeCompactJws(jws)).toBeUndefined();
  const ours = jws.replace(encodedPayload, "e30");
  expect(decodeCompactJws(ours)).toEqual({ header: { alg: "EdDSA" }, claims: {} });
});

test("an access token under the RFC's key verifies from one end to the other", async () => {
  const nowSeconds = 1_800_000_000;
  const now = () => nowSeconds * 1000;
  const issuer = await startSmallIssuer({ now });
  try {
    issuer.serveKey(kid, { jwk: { ...jwk, kid } });
    const verifier = createVerifier({ issuer: issuer.url, audience, revocation: null, now });
    const forger = createForger(issuer.url, makeKey(0), nowSeconds);
    const signer = (input: string) => sign(null, Buffer.from(input), privateKey);
    expect(await verifier.verify(forger.forge({ header: { kid }, signer }))).toMatchObject({ aud: audience });
    await expect(verifier.verify(forger.forge({ header: { kid } }))).rejects.toMatchObject({
      code: "signature_failed",
    });
  } finally {
    await issuer.close();
  }
});
