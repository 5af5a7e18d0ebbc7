/** Answers that are the same at several endpoints, with their challenges to the letter. */

import { beforeAll, describe, expect, test } from "@jest/globals";
import {
  apiAudience,
  basic,
  bearer,
  type EndpointFixture,
  type Headers,
  jsonType,
  parse,
} from "./endpoint-fixture.ts";
import { type RawAnswer, sendBytes } from "./raw-request.ts";
import { everything, expectRefusal } from "./refusal.ts";
import { createForger, type Forger, flawless, strangeTokens } from "./strange-tokens.ts";

/** Credentials that are missing, or of another kind: the challenge names no error (RFC 6750 §3.1). */
export function expectNoCredentials(answer: RawAnswer): void {
  expectRefusal(answer, 401, "invalid_token");
  expect(answer.headers["www-authenticate"]).toBe('Bearer realm="keyfleet"');
}

export function expectInvalidToken(answer: RawAnswer): void {
  expectRefusal(answer, 401, "invalid_token");
  expect(answer.headers["www-authenticate"]).toBe('Bearer error="invalid_token"');
}

export function expectInvalidClient(answer: RawAnswer): void {
  expectRefusal(answer, 401, "invalid_client");
  expect(answer.headers["www-authenticate"]).toBe('Basic realm="keyfleet"');
}

/** A refusal of what was sent, not of who sent it: without a challenge. */
export function expectBadRequest(answer: RawAnswer, error = "invalid_request", status = 400): string {
  expect(answer.headers["www-authenticate"]).toBeUndefined();
  return expectRefusal(answer, status, error);
}

export function expectNoContent(answer: RawAnswer): void {
  expect(answer).toMatchObject({ status: 204, body: Buffer.alloc(0) });
}

/** Runs `work`, after which everything that grants or denies is as it was. */
export async function expectNothingDone<Result>(
  fixture: EndpointFixture,
  work: () => Promise<Result>,
): Promise<Result> {
  const before = await fixture.state();
  const result = await work();
  const after = await fixture.state();
  const differences = [...before, ...after].filter((row) => !before.has(row) || !after.has(row));
  expect(differences).toEqual([]);
  return result;
}

export interface BearerEndpoint {
  readonly fixture: () => EndpointFixture;
  readonly method: string;
  readonly target: string;
  /** JSON. */
  readonly body?: string;
  /** The status for a good token. */
  readonly accepted: number;
}

function asking({ fixture, method, target, body }: BearerEndpoint) {
  const type = body === undefined ? {} : jsonType;
  return (headers: Headers, query = "") =>
    fixture().send(method, target + query, { ...type, ...headers }, body);
}

const noBearer = ["", "Bearer", "Bearer ", "Basic c2hvcDp4", 'Digest username="x"', "Token x", "Bearerx"];

/** What every endpoint that takes a Bearer token refuses, however it is put. */
export function describeBearerRules(endpoint: BearerEndpoint): void {
  const { fixture, method, target, body = "", accepted } = endpoint;
  const ask = asking(endpoint);
  let forger: Forger;
  beforeAll(async () => {
    forger = await createForger(fixture());
  });

  test(`${method} ${target} takes a token with nothing wrong: the control of what follows`, async () => {
    const own = await createForger(fixture());
    expect((await ask(bearer(await flawless(own)))).status).toBe(accepted);
    const { access_token: token } = await fixture().login();
    expect((await ask({ authorization: `bEARER   ${token}` })).status).toBe(accepted);
  });

  describe(`${method} ${target} refuses`, () => {
    test("a request without credentials, and names no error", async () => {
      expectNoCredentials(await expectNothingDone(fixture(), () => ask({})));
    });

    test.each(noBearer)("the credentials '%s' as if there were none", async (authorization) => {
      expectNoCredentials(await ask({ authorization }));
    });

    test("a token in the query, as if it were not there (RFC 9700, 4.3.2)", async () => {
      expectNoCredentials(await ask({}, `?access_token=${forger.good}`));
    });

    test.each(strangeTokens)("$name", async ({ make }) => {
      const token = await make(forger);
      const answer = await expectNothingDone(fixture(), () => ask(bearer(token)));
      expectInvalidToken(answer);
      if (token.length > 4) expect(everything(answer)).not.toContain(token);
    });

    test("a client's secret", async () => {
      expectInvalidToken(await ask(bearer(fixture().clientSecrets.shop)));
    });

    test("two Authorization headers, as malformed (RFC 6750, 3.1)", async () => {
      const line = `Authorization: Bearer ${forger.good}`;
      const answer = await expectNothingDone(fixture(), () =>
        sendLines(
          fixture(),
          [`${method} ${target} HTTP/1.1`, line, line, "Content-Type: application/json"],
          body,
        ),
      );
      expectRefusal(answer, 400, "invalid_request");
      expect(answer.headers["www-authenticate"]).toBe('Bearer error="invalid_request"');
    });
  });
}

/** What those endpoints refuse besides that take only good tokens of an account, for the issuer. */
export function describeAccountTokenRules(endpoint: BearerEndpoint): void {
  const { fixture, method, target } = endpoint;
  const ask = asking(endpoint);
  const refuse = async (token: string) =>
    expectInvalidToken(await expectNothingDone(fixture(), () => ask(bearer(token))));

  describe(`${method} ${target} refuses`, () => {
    test("a token for another audience", async () => {
      await refuse((await fixture().login({ audience: apiAudience })).access_token);
    });

    test("a client's own token, though it is for the issuer", async () => {
      const { issuer, clientSecrets } = fixture();
      const parameters = { grant_type: "client_credentials", audience: issuer };
      const answer = await fixture().postForm("/token", parameters, basic("shop", clientSecrets.shop));
      await refuse(parse<{ access_token: string }>(answer).access_token);
    });

    test("a token whose session has ended", async () => {
      const { access_token: token } = await fixture().login();
      expectNoContent(await fixture().send("POST", "/logout", bearer(token)));
      await refuse(token);
    });

    test("a token that was revoked alone", async () => {
      const { access_token: token } = await fixture().login();
      expect((await fixture().postForm("/revoke", { token })).status).toBe(200);
      await refuse(token);
    });
  });
}

/** A request in these lines, a header twice where it is twice among them; the answer read as any other. */
export async function sendLines(
  { instance }: EndpointFixture,
  lines: readonly string[],
  body = "",
): Promise<RawAnswer> {
  const [start, ...headers] = lines;
  const all = [start, "Host: keyfleet", "Connection: close", `Content-Length: ${body.length}`, ...headers];
  const text = await sendBytes(instance.url, `${all.join("\r\n")}\r\n\r\n${body}`);
  const [head = "", ...rest] = text.split("\r\n\r\n");
  const [status = "", ...answered] = head.split("\r\n");
  const pairs = answered.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  });
  return {
    status: Number(status.split(" ")[1]),
    headers: Object.fromEntries(pairs),
    body: Buffer.from(rest.join("\r\n\r\n")),
  };
}
