/** Issuers that are not wrong, only unlike ours, and news of revocations that lacks its time. */

import { expect, test } from "@jest/globals";
import { createVerifier } from "../../src/verifier/index.ts";
import { createRevokedSet } from "../../src/verifier/revoked-set.ts";
import { audience, createForger, makeKey } from "./forger.ts";
import { startSmallIssuer } from "./small-issuer.ts";

const nowSeconds = 1_800_000_000;
const now = () => nowSeconds * 1000;

test("an issuer whose name ends in a slash is asked below it, with one slash (OpenID Connect Discovery §4)", async () => {
  const issuer = await startSmallIssuer({ now });
  try {
    const name = `${issuer.url}/`;
    const key = makeKey(nowSeconds + 600);
    issuer.changeMetadata({ issuer: name });
    issuer.serveKey(key.kid, { jwk: key.jwk() });
    const verifier = createVerifier({ issuer: name, audience, revocation: null, now });
    const forger = createForger(name, key, nowSeconds);
    expect(await verifier.verify(forger.honest())).toMatchObject({ iss: name });
    expect(issuer.requests[0]).toBe("/.well-known/openid-configuration");
  } finally {
    await issuer.close();
  }
});

test.each([undefined, null, Number.NaN, "soon", {}])("news as of %p make nothing fresh", (asOf) => {
  const revoked = createRevokedSet(now, now);
  revoked.reached("0123456789abcdef0123456789abcdef:0");
  revoked.heard(asOf as unknown as number);
  expect(revoked.ageMs()).toBe(Number.POSITIVE_INFINITY);
  revoked.heard(nowSeconds - 30);
  revoked.heard(asOf as unknown as number);
  expect(revoked.ageMs()).toBe(30_000);
});
