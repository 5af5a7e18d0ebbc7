/** The built library where there is nothing of Node: its own realm, with the globals of a web worker and jose. */

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { type Context, createContext, type Module, SourceTextModule } from "node:vm";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import type * as Library from "../../src/verifier/index.ts";
import { eventually } from "../support/accounts.ts";
import { audience, createForger, type Forger, makeKey, sessionId } from "./forger.ts";
import { type SmallIssuer, startSmallIssuer } from "./small-issuer.ts";

const distUrl = new URL("../../dist/", import.meta.url);
const joseUrl = new URL("../../node_modules/jose/dist/webapi/", import.meta.url);

/** What WinterTC's minimum common API has of what is asked for here; timers are numbers there. */
function workerGlobals(): object {
  const timers = new Map<number, NodeJS.Timeout>();
  let timerCount = 0;
  const { Request, Response, Headers, URL, URLSearchParams, crypto, performance } = globalThis;
  const { TextEncoder, TextDecoder, ReadableStream, AbortController, AbortSignal, DOMException } = globalThis;
  const { atob, btoa, queueMicrotask, structuredClone, Event, EventTarget } = globalThis;
  return {
    ...{ Request, Response, Headers, URL, URLSearchParams, crypto, performance },
    ...{ TextEncoder, TextDecoder, ReadableStream, AbortController, AbortSignal, DOMException },
    ...{ atob, btoa, queueMicrotask, structuredClone, Event, EventTarget },
    /** As Cloudflare's, which knows no other way to treat a redirect. */
    fetch(input: string, init: RequestInit = {}) {
      if (init.redirect === "error") throw new TypeError("redirect must be follow or manual");
      return fetch(input, init);
    },
    setTimeout(done: () => void, ms: number) {
      timerCount += 1;
      timers.set(timerCount, setTimeout(done, ms));
      return timerCount;
    },
    clearTimeout: (id: number) => clearTimeout(timers.get(id)),
  };
}

/** Loads modules of dist/ and jose; whatever else is imported is not there. */
function createLoader(context: Context) {
  const modules = new Map<string, Promise<Module>>();

  function resolve(specifier: string, from: URL): URL {
    if (specifier.startsWith(".")) return new URL(specifier, from);
    const part = /^jose\/(.+)$/.exec(specifier)?.[1];
    if (part === undefined) throw new Error(`there is no module ${specifier} here`);
    return new URL(`${part}.js`, joseUrl);
  }

  function load(url: URL): Promise<Module> {
    const known = modules.get(url.href);
    if (known !== undefined) return known;
    const loading = readFile(fileURLToPath(url), "utf8").then(
      (source) => new SourceTextModule(source, { context, identifier: url.href }) as Module,
    );
    modules.set(url.href, loading);
    return loading;
  }

  async function evaluate(root: Module): Promise<Module> {
    await root.link((specifier, from) => load(resolve(specifier, new URL(from.identifier))));
    await root.evaluate();
    return root;
  }

  return {
    /** Paths below dist/ and packages that were loaded. */
    loaded: () => [...modules.keys()],
    import: async (path: string) => evaluate(await load(new URL(path, distUrl))),
    run: (source: string) =>
      evaluate(
        new SourceTextModule(source, { context, identifier: new URL("inline.js", distUrl).href }) as Module,
      ),
  };
}

let loader: ReturnType<typeof createLoader>;
let issuer: SmallIssuer;
let forger: Forger;
let nowSeconds: number;
let close: (() => Promise<void>) | undefined;

beforeEach(async () => {
  close = undefined;
  nowSeconds = Math.floor(Date.now() / 1000);
  issuer = await startSmallIssuer({ now: Date.now });
  const key = makeKey(nowSeconds + 3600);
  issuer.serveKey(key.kid, { jwk: key.jwk() });
  forger = createForger(issuer.url, key, nowSeconds);
  loader = createLoader(createContext(workerGlobals()));
});

afterEach(async () => {
  await close?.();
  await issuer.close();
});

const importLibrary = async () => (await loader.import("verifier/index.js")).namespace as typeof Library;

test("the library verifies, follows the stream and refuses what was revoked", async () => {
  const { createVerifier, VerificationError } = await importLibrary();
  const events: string[] = [];
  const verifier = createVerifier({
    issuer: issuer.url,
    audience,
    revocation: { whenStale: "reject" },
    onEvent: ({ type }) => events.push(type),
  });
  close = () => verifier.close();
  await verifier.ready();
  expect(events).toContain("stream_connected");
  const token = forger.honest();
  expect(await verifier.verify(token)).toMatchObject({ iss: issuer.url, aud: audience });
  await expect(verifier.verify(forger.forge({ signer: makeKey(0).sign }))).rejects.toThrow(VerificationError);
  await expect(verifier.verify("x")).rejects.toMatchObject({ code: "malformed_token" });
  await expect(verifier.verify(forger.forge({ header: { kid: "A".repeat(43) } }))).rejects.toMatchObject({
    code: "unknown_key",
  });
  issuer.revoke("session", sessionId);
  const codeOf = () =>
    verifier.verify(token).then(
      () => "accepted",
      (error: { code: string }) => error.code,
    );
  await eventually(async () => (await codeOf()) === "token_revoked");
  expect(issuer.requests.filter((path) => path.startsWith("/revocations"))).toEqual(["/revocations/stream"]);
});

test("requireAuth's decision needs nothing of Node either", async () => {
  const { createVerifier, authorize } = await importLibrary();
  const verifier = createVerifier({ issuer: issuer.url, audience, revocation: null });
  close = () => verifier.close();
  const headers = ["Authorization", `Bearer ${forger.honest()}`];
  expect(await authorize(verifier, headers, {})).toMatchObject({ auth: { claims: { iss: issuer.url } } });
  expect(await authorize(verifier, [], {})).toMatchObject({ status: 401 });
});

test("what is loaded is the library, the wire's vocabulary and jose", async () => {
  await importLibrary();
  const below = (path: string) =>
    loader.loaded().filter((href) => href.startsWith(new URL(path, distUrl).href));
  const jose = loader.loaded().filter((href) => href.includes("/node_modules/jose/dist/webapi/"));
  expect(below("verifier/").length).toBeGreaterThan(10);
  expect(jose.length).toBeGreaterThan(5);
  expect([...below("verifier/"), ...below("protocol/"), ...jose].sort()).toEqual(loader.loaded().sort());
});

describe("the realm is one without Node", () => {
  test.each(["process", "Buffer", "require", "global", "setImmediate", "module"])(
    "%s is not there",
    async (name) => {
      const { namespace } = await loader.run(`export const type = typeof ${name};`);
      expect(namespace).toMatchObject({ type: "undefined" });
    },
  );

  test.each(["node:fs", "node:crypto", "crypto", "express"])("%s cannot be imported", async (name) => {
    await expect(loader.run(`import ${JSON.stringify(name)};`)).rejects.toThrow(`no module ${name}`);
  });

  test.each([
    ["http/server.js", "node:http"],
    ["keys/signing-key.js", "node:crypto"],
    ["cli/gateway.js", "commander"],
    ["gateway/gateway-metrics.js", "prom-client"],
  ])("so the server's %s cannot be loaded there, for want of %s", async (path, missing) => {
    await expect(loader.import(path)).rejects.toThrow(`no module`);
    const source = await readFile(new URL(path, distUrl), "utf8");
    expect(source).toContain(missing);
  });
});
