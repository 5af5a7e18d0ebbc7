/** An issuer that fails, stands still or may not stream: what is asked of it then, and what is made of its tokens. */

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import {
  authorize,
  createVerifier,
  type VerificationError,
  type Verifier,
  type VerifierEvent,
  type VerifierOptions,
} from "../../src/verifier/index.ts";
import { createKeySource } from "../../src/verifier/key-source.ts";
import { eventually } from "../support/accounts.ts";
import { audience, createForger, type Forger, makeKey, sessionId } from "./forger.ts";
import { type Answer, type SmallIssuer, sendJson, startSmallIssuer } from "./small-issuer.ts";

const metadataPath = "/.well-known/openid-configuration";
const refuse: Answer = (_request, response) => void response.writeHead(503).end();

let issuer: SmallIssuer;
let forger: Forger;
let events: VerifierEvent["type"][];
let verifiers: Verifier[];

beforeEach(async () => {
  events = [];
  verifiers = [];
  issuer = await startSmallIssuer({ now: Date.now });
  const nowSeconds = Math.floor(Date.now() / 1000);
  const key = makeKey(nowSeconds + 3600);
  issuer.serveKey(key.kid, { jwk: key.jwk() });
  forger = createForger(issuer.url, key, nowSeconds);
});
afterEach(async () => {
  for (const verifier of verifiers) await verifier.close();
  await issuer.close();
});

function startVerifier(options: Partial<VerifierOptions> = {}): Verifier {
  const verifier = createVerifier({
    issuer: issuer.url,
    audience,
    revocation: { whenStale: "reject", maxStaleness: "5s" },
    onEvent: ({ type }) => events.push(type),
    ...options,
  });
  verifiers.push(verifier);
  return verifier;
}

const outcomeOf = (verifier: Verifier, token: string) =>
  verifier.verify(token).then(
    () => "accepted",
    (error: VerificationError) => error.code,
  );
const withMadeUpKid = (index: number) => forger.forge({ header: { kid: String(index).padStart(43, "A") } });

describe("without a stream", () => {
  test("the snapshot is polled: first the whole, then what is later, and from the whole again in another epoch", async () => {
    issuer.answerWith("/revocations/stream", refuse);
    const verifier = startVerifier();
    await verifier.ready();
    expect(events).not.toContain("stream_connected");
    const token = forger.honest();
    expect(await outcomeOf(verifier, token)).toBe("accepted");
    issuer.revoke("session", sessionId);
    await eventually(async () => (await outcomeOf(verifier, token)) === "token_revoked");
    const polls = () => issuer.requests.filter((path) => /^\/revocations(\?|$)/.test(path));
    expect(polls()[0]).toBe("/revocations");
    expect(polls()[1]).toMatch(/^\/revocations\?after=[0-9a-f]{32}:0$/);

    const epoch = "f".repeat(32);
    issuer.answerWith("/revocations", (request, response) => {
      if (request.url !== "/revocations") response.writeHead(410).end();
      else sendJson(response, { cursor: `${epoch}:0`, as_of: Date.now() / 1000, events: [] });
    });
    await eventually(() => events.includes("epoch_changed"));
    // Another epoch forgets nothing.
    expect(await outcomeOf(verifier, token)).toBe("token_revoked");
  });

  test("and polls that fail, it is stale by its own age", async () => {
    issuer.answerWith("/revocations/stream", refuse);
    const verifier = startVerifier();
    await verifier.ready();
    issuer.answerWith("/revocations", refuse);
    const token = forger.honest();
    await eventually(async () => (await outcomeOf(verifier, token)) === "revocation_stale");
    expect(verifier.revocationAgeMs()).toBeGreaterThan(5000);
    issuer.answerWith("/revocations", undefined);
    await eventually(async () => (await outcomeOf(verifier, token)) === "accepted");
  }, 20_000);
});

test("a stream that goes on without getting any newer, its instance being cut off, is left before it is stale", async () => {
  const standing = Date.now() / 1000;
  let frozen = 0;
  issuer.answerWith("/revocations/stream", (_request, response) => {
    frozen += 1;
    issuer.answerWith("/revocations/stream", undefined);
    const data = `data: {"as_of":${standing}}\n\n`;
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(`event: ready\nid: ${"0".repeat(32)}:0\n${data}`);
    const heartbeats = setInterval(() => response.write(`event: heartbeat\n${data}`), 500);
    response.once("close", () => clearInterval(heartbeats));
  });
  const verifier = startVerifier();
  await verifier.ready();
  const token = forger.honest();
  const outcomes = new Set<string>();
  await eventually(async () => {
    outcomes.add(await outcomeOf(verifier, token));
    return issuer.openStreams() === 1;
  });
  expect(frozen).toBe(1);
  expect([...outcomes]).toEqual(["accepted"]);
  await eventually(() => verifier.revocationAgeMs() < 1500);
  expect(await outcomeOf(verifier, token)).toBe("accepted");
});

test("a stream whose event never ends is no stream, and takes no memory", async () => {
  let sentBytes = 0;
  issuer.answerWith("/revocations/stream", (_request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    const line = `data: ${"x".repeat(1000)}\n`;
    const lines = setInterval(() => {
      response.write(line.repeat(10));
      sentBytes += line.length * 10;
    }, 1);
    response.once("close", () => {
      clearInterval(lines);
      issuer.answerWith("/revocations/stream", undefined);
    });
  });
  const verifier = startVerifier();
  await eventually(() => events.includes("stream_connected"));
  expect(sentBytes).toBeLessThan(1e6);
  expect(await outcomeOf(verifier, forger.honest())).toBe("accepted");
});

test("metadata that cannot be had are asked for once a second, whatever the number of tokens", async () => {
  issuer.answerWith(metadataPath, refuse);
  const verifier = startVerifier({ revocation: null });
  const beganAtMs = performance.now();
  const codes = new Set<string>();
  for (let index = 0; issuer.requests.length < 2; index += 1) {
    codes.add(await outcomeOf(verifier, withMadeUpKid(index)));
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
  expect(performance.now() - beganAtMs).toBeGreaterThan(990);
  expect([...codes]).toEqual(["keys_unavailable"]);
  expect(issuer.requests).toEqual([metadataPath, metadataPath]);
  issuer.answerWith(metadataPath, undefined);
  await eventually(async () => (await outcomeOf(verifier, forger.honest())) === "accepted", 2000);
});

test("a calendar that is set back by an hour holds up no new key", async () => {
  let nowMs = Date.now();
  const source = createKeySource({
    discovery: {
      endpoints: async () => ({
        jwksUri: `${issuer.url}/.well-known/jwks.json`,
        keyUri: undefined,
        revocationsUri: undefined,
        introspectionUri: undefined,
      }),
    },
    algorithms: ["EdDSA"],
    fetch,
    now: () => nowMs,
    steadyNow: () => performance.now(),
    onEvent: () => undefined,
  });
  await source.get(forger.key.kid);
  const added = makeKey(nowMs / 1000 + 3600);
  await expect(source.get(added.kid)).rejects.toMatchObject({ code: "unknown_key" });
  issuer.serveKey(added.kid, { jwk: added.jwk() });
  nowMs -= 3_600_000;
  await eventually(
    () =>
      source.get(added.kid).then(
        () => true,
        () => false,
      ),
    4000,
  );
});

describe("what the service itself brings along", () => {
  const fails = (): never => {
    throw new RangeError("of the service itself");
  };

  test("changes no verdict by an observer or a logger that throws", async () => {
    const verifier = startVerifier({ revocation: null, onEvent: fails, logger: { warn: fails } });
    expect(await outcomeOf(verifier, forger.honest())).toBe("accepted");
    expect(await outcomeOf(verifier, withMadeUpKid(1))).toBe("unknown_key");
    const headers = ["Authorization", "Bearer x"];
    expect(await authorize(verifier, headers, {})).toMatchObject({ status: 401 });
  });

  test("and is a 503 where it breaks: nothing was judged", async () => {
    const broken = { ...startVerifier({ revocation: null }), verify: async () => fails() };
    const headers = ["Authorization", `Bearer ${forger.honest()}`];
    expect(await authorize(broken, headers, {})).toMatchObject({ status: 503 });
    let isBroken = false;
    const timeless = startVerifier({ revocation: null, now: () => (isBroken ? fails() : Date.now()) });
    expect(await outcomeOf(timeless, forger.honest())).toBe("accepted");
    isBroken = true;
    expect(await outcomeOf(timeless, forger.honest())).toBe("keys_unavailable");
  });
});
