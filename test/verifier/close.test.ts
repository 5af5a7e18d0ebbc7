/** A verifier that is closed leaves nothing behind at the issuer, whenever that is. */

import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { createVerifier, type Verifier } from "../../src/verifier/index.ts";
import { eventually } from "../support/accounts.ts";
import { audience } from "./forger.ts";
import { type SmallIssuer, startSmallIssuer } from "./small-issuer.ts";

const now = () => 1_800_000_000_000;
let issuer: SmallIssuer;
let last: Verifier | undefined;

beforeEach(async () => {
  issuer = await startSmallIssuer({ now });
});

afterEach(async () => {
  await last?.close();
  await issuer.close();
});

const start = () =>
  createVerifier({ issuer: issuer.url, audience, revocation: { whenStale: "reject" }, now });

test("closing ends the stream", async () => {
  const verifier = start();
  await verifier.ready();
  expect(issuer.openStreams()).toBe(1);
  await verifier.close();
  await eventually(() => issuer.openStreams() === 0);
});

test("closing before there is a stream keeps it from being opened", async () => {
  const verifier = start();
  await verifier.close();
  // What is asked by a second one comes after all that the first has asked at once.
  await eventually(() => issuer.requests.length > 0);
  last = start();
  await last.ready();
  expect(issuer.requests.filter((path) => path === "/revocations/stream")).toHaveLength(1);
  expect(issuer.openStreams()).toBe(1);
});
