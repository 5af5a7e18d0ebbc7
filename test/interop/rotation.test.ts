import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { decodeJwt, decodeProtectedHeader } from "jose";
import type { TokenResponse } from "../../src/protocol/oauth.ts";
import { addAccount, eventually, postLogin } from "../support/accounts.ts";
import { freshDatabase, type TestDatabase } from "../support/database.ts";
import { startInstance, type TestInstance } from "../support/instance.ts";
import { type CachingConsumer, createCachingConsumers } from "./caching-consumers.ts";
import { type LateJwksFront, startLateJwksFront } from "./late-jwks-front.ts";

const rotations = 20;
/** As 30 s against hours: well below a period, so that a machine that stalls for a moment changes nothing. */
const staleMs = 250;
const pauseMs = 100;

interface Tally {
  readonly consumer: CachingConsumer;
  verifications: number;
  /** Of tokens that were valid. */
  readonly rejections: string[];
  madeUpKeysAccepted: number;
}

let database: TestDatabase;
let instance: TestInstance;
let front: LateJwksFront;
/** The same consumers twice: reading from the instance, and from the front that takes the lead away. */
let withLead: Tally[];
let withoutLead: Tally[];
const kids = new Set<string>();
let tokens = 0;

beforeAll(async () => {
  database = await freshDatabase();
  await addAccount(database.url);
  const settings = {
    KEY_ROTATION_SCHEDULE: "* * * * * *",
    KEY_PROPAGATION_DELAY: "500ms",
    ACCESS_TOKEN_TTL: "3s",
    VERIFY_GRACE: "0s",
  };
  instance = await startInstance({ databaseUrl: database.url, settings });
  const jwksUrl = new URL(`${instance.url}/.well-known/jwks.json`);
  front = await startLateJwksFront(jwksUrl);
  withLead = createTallies(jwksUrl);
  withoutLead = createTallies(front.jwksUrl);
  // With periods of one second, a new instance signs from the next one on.
  await eventually(async () => (await postLogin(instance.url)).ok);
  await verifyThroughRotations();
  await report();
}, 120_000);

afterAll(async () => {
  await front?.close();
  await instance?.stop();
  await database?.drop();
});

test("no consumer rejects a valid token across 20 rotations", () => {
  expect(kids.size).toBeGreaterThan(rotations);
  for (const { consumer, verifications, rejections } of withLead) {
    expect({ consumer: consumer.name, rejections }).toEqual({ consumer: consumer.name, rejections: [] });
    expect(verifications).toBeGreaterThan(2 * rotations);
  }
});

test("control: with the lead taken out, every consumer that caches rejects valid tokens, and only those", () => {
  const rejecting = withoutLead.filter(({ rejections }) => rejections.length > 0);
  expect(rejecting.map(({ consumer }) => consumer.name)).toEqual(
    withoutLead.filter(({ consumer }) => consumer.caches).map(({ consumer }) => consumer.name),
  );
});

test("no consumer accepts a token under a made-up key", () => {
  for (const { madeUpKeysAccepted } of cachingTallies()) expect(madeUpKeysAccepted).toBe(0);
});

function createTallies(jwksUrl: URL): Tally[] {
  const expected = { issuer: instance.issuer, audience: instance.issuer };
  return createCachingConsumers(jwksUrl, expected, staleMs).map((consumer) => ({
    consumer,
    verifications: 0,
    rejections: [],
    madeUpKeysAccepted: 0,
  }));
}

/** Logs in again and again; each token is verified at once, and some again shortly before their end. */
async function verifyThroughRotations(): Promise<void> {
  const queue: string[] = [];
  while (kids.size <= rotations) {
    const answer = await postLogin(instance.url);
    // Where the machine stalled for most of a period, there is no key for a moment.
    if (answer.status === 503) {
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
      continue;
    }
    const { access_token: token } = (await answer.json()) as TokenResponse;
    const kid = String(decodeProtectedHeader(token).kid);
    kids.add(kid);
    tokens += 1;
    front.show(kid);
    queue.push(token);
    while (endMs(queue[0] ?? token) - Date.now() < 300) queue.shift();
    const oldest = queue[0] ?? token;
    // Somebody tries made-up keys: it makes consumers read the JWKS at any moment, and then hold off from it.
    const madeUp = withAnotherKid(token);
    await Promise.all([
      ...[...withLead, ...withoutLead].map((tally) => verifyValid(tally, token)),
      ...withLead.map((tally) => verifyValid(tally, oldest)),
    ]);
    await Promise.all(cachingTallies().map((tally) => tryMadeUp(tally, madeUp)));
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

async function verifyValid(tally: Tally, token: string): Promise<void> {
  try {
    await tally.consumer.verify(token);
    tally.verifications += 1;
  } catch (error) {
    if (Date.now() < endMs(token)) tally.rejections.push(String(error));
  }
}

async function tryMadeUp(tally: Tally, token: string): Promise<void> {
  const accepted = await tally.consumer.verify(token).then(
    () => true,
    () => false,
  );
  if (accepted) tally.madeUpKeysAccepted += 1;
}

function cachingTallies(): Tally[] {
  return [...withLead, ...withoutLead].filter(({ consumer }) => consumer.caches);
}

function endMs(token: string): number {
  return (decodeJwt(token).exp ?? 0) * 1000;
}

function withAnotherKid(token: string): string {
  const header = { ...decodeProtectedHeader(token), kid: randomBytes(32).toString("base64url") };
  const [, payload, signature] = token.split(".");
  return [Buffer.from(JSON.stringify(header)).toString("base64url"), payload, signature].join(".");
}

async function report(): Promise<void> {
  const { rows } = await database.pool.query<{ least_lead: string }>(
    `select round(1000 * min(extract(epoch from activates_at - published_at))) as least_lead
     from keyfleet.signing_keys where kid = any ($1)`,
    [[...kids].slice(1)],
  );
  const lines = (title: string, tallies: readonly Tally[]) =>
    tallies.map(
      ({ consumer, verifications, rejections }) =>
        `${title}, ${consumer.name}: ${verifications} accepted, ${rejections.length} rejected`,
    );
  console.log(
    [
      `${tokens} tokens, ${kids.size} kids, least lead ${rows[0]?.least_lead} ms`,
      ...lines("with the lead", withLead),
      ...lines("without", withoutLead),
    ].join("\n"),
  );
}
