/** Strict mode: what the issuer says of each token, and how often it is asked. */

import { afterEach, beforeEach, expect, test } from "@jest/globals";
import {
  createVerifier,
  type IntrospectionOptions,
  type VerificationError,
  type Verifier,
  type VerifierOptions,
} from "../../src/verifier/index.ts";
import { addClient } from "../http/endpoint-fixture.ts";
import { addAccount, eventually, login } from "../support/accounts.ts";
import { freshDatabase } from "../support/database.ts";
import { startInstance } from "../support/instance.ts";
import { logOut } from "../support/revocations.ts";
import { audience, createForger, type Forger, makeKey, sessionId } from "./forger.ts";
import { type SmallIssuer, sendJson, startSmallIssuer } from "./small-issuer.ts";

const nowSeconds = 1_800_000_000;
const credentials = { clientId: "orders api", clientSecret: "s:e/c+r%et" };
let passedSeconds: number;
let issuer: SmallIssuer;
let forger: Forger;
let verifiers: Verifier[];
/** What the issuer was asked. */
let asked: { readonly authorization: string; readonly form: URLSearchParams }[];
/** Tokens that it does not know. */
let strange: Set<string>;
let status: number;
/** Resolves when the issuer may answer. */
let mayAnswer: Promise<void>;

const now = () => (nowSeconds + passedSeconds) * 1000;

beforeEach(async () => {
  passedSeconds = 0;
  verifiers = [];
  asked = [];
  strange = new Set();
  status = 200;
  mayAnswer = Promise.resolve();
  issuer = await startSmallIssuer({ now });
  const key = makeKey(nowSeconds + 3000);
  issuer.serveKey(key.kid, { jwk: key.jwk() });
  forger = createForger(issuer.url, key, nowSeconds);
  issuer.answerWith("/introspect", async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const form = new URLSearchParams(body);
    asked.push({ authorization: request.headers.authorization ?? "", form });
    await mayAnswer;
    response.statusCode = status;
    sendJson(response, { active: !strange.has(form.get("token") ?? "") });
  });
});
afterEach(async () => {
  for (const verifier of verifiers) await verifier.close();
  await issuer.close();
});

function startVerifier(
  introspection: Partial<IntrospectionOptions> = {},
  revocation: VerifierOptions["revocation"] = null,
): Verifier {
  const verifier = createVerifier({
    issuer: issuer.url,
    audience,
    revocation,
    introspection: { ...credentials, ...introspection },
    now,
  });
  verifiers.push(verifier);
  return verifier;
}

const outcomeOf = (verifier: Verifier, token: string) =>
  verifier.verify(token).then(
    () => "accepted",
    (error: VerificationError) => error.code,
  );

test("a token that was signed with a good key but never issued is refused", async () => {
  const verifier = startVerifier();
  const [issued, stolen] = [forger.honest(), forger.honest()];
  strange.add(stolen);
  expect(await outcomeOf(verifier, issued)).toBe("accepted");
  expect(await outcomeOf(verifier, stolen)).toBe("not_issued");
  // The control: without strict mode nothing is wrong with it.
  const lax = createVerifier({ issuer: issuer.url, audience, revocation: null, now });
  expect(await outcomeOf(lax, stolen)).toBe("accepted");
});

test("the issuer is asked as RFC 7662 says, with credentials encoded as RFC 6749 §2.3.1 says", async () => {
  const token = forger.honest();
  await startVerifier().verify(token);
  const [{ authorization, form } = { authorization: "", form: new URLSearchParams() }] = asked;
  expect(Buffer.from(authorization.replace("Basic ", ""), "base64").toString()).toBe(
    "orders+api:s%3Ae%2Fc%2Br%25et",
  );
  expect([...form]).toEqual([
    ["token", token],
    ["token_type_hint", "access_token"],
  ]);
});

test("every verification asks again, so an end is known at once; those at the same time ask together", async () => {
  const verifier = startVerifier();
  const token = forger.honest();
  await verifier.verify(token);
  await verifier.verify(token);
  expect(asked).toHaveLength(2);
  let answer: () => void = () => undefined;
  mayAnswer = new Promise((resolve) => {
    answer = resolve;
  });
  const together = Array.from({ length: 20 }, () => outcomeOf(verifier, token));
  await eventually(() => asked.length === 3);
  answer();
  expect(new Set(await Promise.all(together))).toEqual(new Set(["accepted"]));
  expect(asked).toHaveLength(3);
  strange.add(token);
  expect(await outcomeOf(verifier, token)).toBe("not_issued");
});

test("an active answer is believed for as long as the setting says, an inactive one is not kept", async () => {
  const verifier = startVerifier({ cacheSeconds: 10 });
  const token = forger.honest();
  strange.add(token);
  expect(await outcomeOf(verifier, token)).toBe("not_issued");
  strange.delete(token);
  expect(await outcomeOf(verifier, token)).toBe("accepted");
  expect(asked).toHaveLength(2);
  strange.add(token);
  passedSeconds = 9;
  expect(await outcomeOf(verifier, token)).toBe("accepted");
  expect(asked).toHaveLength(2);
  passedSeconds = 10;
  expect(await outcomeOf(verifier, token)).toBe("not_issued");
});

test("a token that is refused anyway is not asked about", async () => {
  const verifier = startVerifier();
  await outcomeOf(verifier, forger.forge({ claims: { aud: "https://other.example" } }));
  await outcomeOf(verifier, forger.forge({ signer: makeKey(0).sign }));
  expect(asked).toEqual([]);
});

test.each([401, 500, 503])("where the issuer answers %d the token cannot be judged", async (failure) => {
  status = failure;
  expect(await outcomeOf(startVerifier(), forger.honest())).toBe("revocation_stale");
});

test("nor can it where the issuer has no introspection", async () => {
  issuer.changeMetadata({ introspection_endpoint: undefined });
  expect(await outcomeOf(startVerifier(), forger.honest())).toBe("revocation_stale");
});

test("what is revoked while the issuer is being asked is refused", async () => {
  const verifier = startVerifier({}, { whenStale: "reject" });
  await verifier.ready();
  const [token, watched] = [forger.honest(), forger.honest()];
  await verifier.verify(watched);
  let answer: () => void = () => undefined;
  mayAnswer = new Promise((resolve) => {
    answer = resolve;
  });
  const outcome = outcomeOf(verifier, token);
  await eventually(() => asked.length === 2);
  issuer.revoke("session", sessionId);
  // It is refused without asking, once that is known.
  await eventually(() => outcomeIsRevoked(verifier));
  answer();
  expect(await outcome).toBe("token_revoked");
});

/** Of another token of the session. Not awaited for long: before that is known it waits for the issuer. */
async function outcomeIsRevoked(verifier: Verifier): Promise<boolean> {
  const waiting = new Promise<string>((resolve) => setTimeout(resolve, 20, "waiting"));
  return (await Promise.race([outcomeOf(verifier, forger.honest()), waiting])) === "token_revoked";
}

test("of a real issuer, what it issued is good until it ends, without following revocations", async () => {
  const database = await freshDatabase();
  await addAccount(database.url);
  const instance = await startInstance({ databaseUrl: database.url, settings: { AUDIENCES: audience } });
  try {
    const clientSecret = await addClient(database, { id: "shop", audiences: [audience], scopes: [] });
    const strict = createVerifier({
      issuer: instance.issuer,
      audience,
      revocation: null,
      introspection: { clientId: "shop", clientSecret },
    });
    const { access_token: token, refresh_token: refreshToken } = await login(instance.url);
    expect(await outcomeOf(strict, token)).toBe("accepted");
    await logOut(instance.url, refreshToken);
    expect(await outcomeOf(strict, token)).toBe("not_issued");
  } finally {
    await instance.stop("SIGKILL");
    await database.drop();
  }
}, 30_000);
