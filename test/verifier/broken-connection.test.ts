/** Connections that break before anything was answered, as where an instance is replaced that one was connected to. */

import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { createVerifier } from "../../src/verifier/index.ts";
import type { Verifier } from "../../src/verifier/verifier.ts";
import { audience, createForger, makeKey } from "./forger.ts";
import { type SmallIssuer, startSmallIssuer } from "./small-issuer.ts";

const nowSeconds = 1_800_000_000;
const now = () => nowSeconds * 1000;
const key = makeKey(nowSeconds + 600);
const keyPath = `/.well-known/jwks/${key.kid}`;

let issuer: SmallIssuer;
let verifier: Verifier;

beforeEach(async () => {
  issuer = await startSmallIssuer({ now });
  issuer.serveKey(key.kid, { jwk: key.jwk() });
  verifier = createVerifier({ issuer: issuer.url, audience, revocation: null, now });
});
afterEach(async () => {
  verifier.close();
  await issuer.close();
});

const honest = () => createForger(issuer.url, key, nowSeconds).honest();
const asked = () => issuer.requests.filter((target) => target === keyPath).length;

test("one that breaks under a request for a key is no reason to refuse: it is asked for once more", async () => {
  issuer.answerWith(keyPath, ({ socket }) => {
    issuer.answerWith(keyPath, undefined);
    socket.destroy();
  });
  expect(await verifier.verify(honest())).toMatchObject({ iss: issuer.url });
  expect(asked()).toBe(2);
});

test("where every one breaks, the key cannot be had, after two requests", async () => {
  issuer.answerWith(keyPath, ({ socket }) => void socket.destroy());
  await expect(verifier.verify(honest())).rejects.toMatchObject({ code: "keys_unavailable" });
  expect(asked()).toBe(2);
});
