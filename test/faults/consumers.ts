/**
 * A population of token consumers that differ in when they read the JWKS again, each as its library is set up by
 * default, as far as a storm has time for it.
 */

import { createPublicKey, randomBytes } from "node:crypto";
import { Worker } from "node:worker_threads";
import { JwtVerifier } from "aws-jwt-verify";
import { SimpleJwksCache, SimplePenaltyBox } from "aws-jwt-verify/jwk";
import { createVerifier as createFastJwtVerifier } from "fast-jwt";
import buildGetJwks from "get-jwks";
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  decodeProtectedHeader,
  importSPKI,
  type JSONWebKeySet,
  jwtVerify,
} from "jose";
import * as oauth from "oauth4webapi";

export interface Consumer {
  readonly name: string;
  /** How long it may go on with what it read, whatever it meets. */
  readonly staleMs: number;
  /** So long by default. */
  readonly defaultStaleMs: number;
  /** How it says that it was not answered in the time that it waits, where that is short. */
  readonly unanswered?: RegExp | undefined;
  /** Throws whatever the library throws. */
  verify(token: string): Promise<unknown>;
  close(): void | Promise<void>;
}

export interface ConsumerOptions {
  /** Of the front that they read through. */
  readonly issuer: string;
  /** In place of all that is longer of what they wait for before they read again: what I9 allows for the delay. */
  readonly staleMs?: number;
}

/** The same token, as if another key had signed it. */
export function withMadeUpKey(token: string): string {
  const header = { ...decodeProtectedHeader(token), kid: randomBytes(32).toString("base64url") };
  const [, ...rest] = token.split(".");
  return [Buffer.from(JSON.stringify(header)).toString("base64url"), ...rest].join(".");
}

/** What is told of each: those that do not go by their defaults show what they show at another scale. */
export function describeConsumer({ name, staleMs, defaultStaleMs }: Consumer): string {
  const scale = staleMs === defaultStaleMs ? "as by default" : `in place of ${defaultStaleMs} ms by default`;
  return `consumer ${name}: goes by what it has read for up to ${staleMs} ms, ${scale}`;
}

const minuteMs = 60_000;
const nothingToClose = { close: () => undefined };

export async function createConsumers(options: ConsumerOptions): Promise<readonly Consumer[]> {
  return [
    joseConsumer("jose", options, 30_000),
    joseConsumer("jose, a long cooldown (as keyfunc)", options, 5 * minuteMs),
    uncachedJoseConsumer(options),
    await intervalConsumer(options),
    awsConsumer(options),
    fastJwtConsumer(options),
    jwksRsaConsumer(options),
    await oauth4webapiConsumer(options),
  ];
}

const jwksUrl = ({ issuer }: ConsumerOptions) => new URL(`${issuer}/.well-known/jwks.json`);
const expected = ({ issuer }: ConsumerOptions) => ({ issuer, audience: issuer });

/** How long it goes by what it has read, which it does for so long by default. */
function times({ staleMs = Number.POSITIVE_INFINITY }: ConsumerOptions, defaultStaleMs: number) {
  return { staleMs: Math.min(staleMs, defaultStaleMs), defaultStaleMs };
}

function joseConsumer(name: string, options: ConsumerOptions, defaultCooldownMs: number): Consumer {
  const itsTimes = times(options, defaultCooldownMs);
  const keys = createRemoteJWKSet(jwksUrl(options), { cooldownDuration: itsTimes.staleMs });
  return {
    ...nothingToClose,
    ...itsTimes,
    name,
    verify: (token) => jwtVerify(token, keys, expected(options)),
  };
}

function uncachedJoseConsumer(options: ConsumerOptions): Consumer {
  return {
    ...nothingToClose,
    ...times(options, 0),
    name: "jose, without a cache",
    verify: (token) => jwtVerify(token, createRemoteJWKSet(jwksUrl(options)), expected(options)),
  };
}

/** The set as it is now, and no more. */
async function readSet(options: ConsumerOptions): Promise<ReturnType<typeof createLocalJWKSet>> {
  const response = await fetch(jwksUrl(options), { signal: AbortSignal.timeout(5000) });
  if (!response.ok) throw new Error(`the JWKS: ${response.status}`);
  return createLocalJWKSet((await response.json()) as JSONWebKeySet);
}

export const readOnceName = "jose, a set that was read once";

/** It knows the keys that there were when it was made, and never reads again. */
export async function readOnceConsumer(options: ConsumerOptions): Promise<Consumer> {
  const keys = await readSet(options);
  return {
    ...nothingToClose,
    name: readOnceName,
    staleMs: Number.POSITIVE_INFINITY,
    defaultStaleMs: Number.POSITIVE_INFINITY,
    verify: (token) => jwtVerify(token, keys, expected(options)),
  };
}

/** Envoy's way: the set is read at fixed intervals (10 min there), and an unknown kid changes nothing. */
async function intervalConsumer(options: ConsumerOptions): Promise<Consumer> {
  let keys = await readSet(options);
  const read = async () => {
    keys = await readSet(options);
  };
  const itsTimes = times(options, 10 * minuteMs);
  const timer = setInterval(() => void read().catch(() => undefined), itsTimes.staleMs);
  return {
    ...itsTimes,
    name: "fixed intervals alone (as Envoy)",
    verify: (token) => jwtVerify(token, keys, expected(options)),
    close: () => clearInterval(timer),
  };
}

/** Reads at any unknown kid; where it was not there, no other is looked for for 10 s. */
function awsConsumer(options: ConsumerOptions): Consumer {
  const itsTimes = times(options, 10_000);
  const penaltyBox = new SimplePenaltyBox({ waitSeconds: itsTimes.staleMs / 1000 });
  const fetcher = {
    fetch: async (url: string) => (await fetch(url, { signal: AbortSignal.timeout(5000) })).arrayBuffer(),
  };
  const verifier = JwtVerifier.create(
    { ...expected(options), jwksUri: jwksUrl(options).href },
    { jwksCache: new SimpleJwksCache({ fetcher, penaltyBox }) },
  );
  return {
    ...nothingToClose,
    ...itsTimes,
    name: "aws-jwt-verify",
    verify: (token) => verifier.verify(token),
  };
}

/** A key is kept for a minute; an unknown one is looked for in the set at once. */
function fastJwtConsumer({ issuer }: ConsumerOptions): Consumer {
  const getJwks = buildGetJwks({ issuersWhitelist: [issuer], providerDiscovery: true });
  const verify = createFastJwtVerifier({
    allowedIss: issuer,
    allowedAud: issuer,
    async key({ header }: { header: Record<string, string> }) {
      const { kid = "", alg = "" } = header;
      const jwk = await getJwks.getJwk({ kid, alg, domain: issuer });
      return createPublicKey({ key: jwk, format: "jwk" }).export({ type: "spki", format: "pem" });
    },
  });
  return {
    ...nothingToClose,
    name: "fast-jwt with get-jwks",
    staleMs: 0,
    defaultStaleMs: 0,
    verify: (token) => verify(token),
  };
}

/** In a thread of its own: jest cannot require the ES module that jwks-rsa requires. */
const jwksRsaThread = `
  const { parentPort, workerData } = require("node:worker_threads");
  const client = require("jwks-rsa")(workerData);
  parentPort.on("message", (kid) =>
    client.getSigningKey(kid).then(
      (key) => parentPort.postMessage({ kid, pem: key.getPublicKey() }),
      (error) => parentPort.postMessage({ kid, error: String(error) }),
    ),
  );`;

type KeyAnswer = { readonly kid: string; readonly pem?: string; readonly error?: string };

/** Five keys are kept for ten minutes each; an unknown one is looked for in the set at once. */
function jwksRsaConsumer(options: ConsumerOptions): Consumer {
  const thread = new Worker(jwksRsaThread, { eval: true, workerData: { jwksUri: jwksUrl(options).href } });
  thread.setMaxListeners(0);
  const getPem = (kid: string) =>
    new Promise<string>((resolve, reject) => {
      thread.on("message", function take(answer: KeyAnswer) {
        if (answer.kid !== kid) return;
        thread.off("message", take);
        if (answer.pem === undefined) reject(new Error(answer.error));
        else resolve(answer.pem);
      });
      thread.postMessage(kid);
    });
  return {
    name: "jwks-rsa with jose",
    staleMs: 0,
    defaultStaleMs: 0,
    async verify(token) {
      const { kid = "" } = decodeProtectedHeader(token);
      return jwtVerify(token, await importSPKI(await getPem(kid), "EdDSA"), expected(options));
    },
    close: () => void thread.terminate(),
  };
}

/** It reads again at an unknown kid when its set is 60 s old: the set is made to age as much faster as `staleMs` is less. */
async function oauth4webapiConsumer(options: ConsumerOptions): Promise<Consumer> {
  const { issuer } = options;
  const itsTimes = times(options, minuteMs);
  const overHttp = { [oauth.allowInsecureRequests]: true };
  const issuerUrl = new URL(issuer);
  const response = await oauth.discoveryRequest(issuerUrl, { algorithm: "oauth2", ...overHttp });
  const server = await oauth.processDiscoveryResponse(issuerUrl, response);
  const cache = {} as oauth.ExportedJWKSCache;
  let known: unknown;
  let readAtMs = Date.now();
  return {
    ...nothingToClose,
    ...itsTimes,
    name: "oauth4webapi",
    async verify(token) {
      if (cache.jwks !== known) readAtMs = Date.now();
      known = cache.jwks;
      const agedSeconds = Math.floor(((Date.now() - readAtMs) / itsTimes.staleMs) * 60);
      if (known !== undefined) cache.uat = Math.floor(Date.now() / 1000) - agedSeconds;
      const request = new Request("https://api.example/", { headers: { authorization: `Bearer ${token}` } });
      // Another object each time: by it the library would know its own copy of the set, with the age that it has.
      const caching = { ...overHttp, [oauth.jwksCache]: cache };
      return oauth.validateJwtAccessToken({ ...server }, request, issuer, caching);
    },
  };
}
