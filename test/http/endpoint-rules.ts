/** Rules that hold at every endpoint: its methods, its media types, its size, and what it says without a database. */

import { describe, expect, test } from "@jest/globals";
import { expectBadRequest, expectNothingDone } from "./endpoint-answers.ts";
import { type EndpointFixture, formType, jsonType } from "./endpoint-fixture.ts";
import type { RawAnswer } from "./raw-request.ts";
import { everything, expectRefusal } from "./refusal.ts";

export interface MethodRules {
  readonly fixture: () => EndpointFixture;
  readonly path: string;
  readonly allowed: readonly string[];
}

const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

export function describeMethodRules({ fixture, path, allowed }: MethodRules): void {
  const others = methods.filter((method) => !allowed.includes(method));
  test.each(others)(`%s ${path} is 405, with ${allowed.join(" and ")} in Allow`, async (method) => {
    const answer = await fixture().send(method, path);
    if (method === "HEAD") expect(answer).toMatchObject({ status: 405, body: Buffer.alloc(0) });
    else expectRefusal(answer, 405, "method_not_allowed");
    expect(answer.headers.allow).toBe(allowed.join(", "));
  });
}

/**
 * `prepare` makes what is needed while the database is there, and returns requests that need it. Each is to be
 * refused in time, with nothing done, and to go through as if nothing had been once the database is back.
 */
export function describeOutage(
  fixture: () => EndpointFixture,
  prepare: () => Promise<readonly (() => Promise<RawAnswer>)[]>,
): void {
  test.each(["refuse", "hang"] as const)(
    "while the database is away (%s) it answers 503 within two seconds, and nothing is half done",
    async (mode) => {
      const requests = await prepare();
      await expectNothingDone(fixture(), () =>
        fixture().whileAway(mode, async () => {
          const startedAtMs = performance.now();
          const answers = await Promise.all(requests.map((request) => request()));
          expect(performance.now() - startedAtMs).toBeLessThan(2000);
          for (const answer of answers) {
            expectBadRequest(answer, "temporarily_unavailable", 503);
            expect(answer.headers["retry-after"]).toBe("1");
          }
        }),
      );
      for (const request of requests) expect((await request()).status).toBeLessThan(300);
    },
  );
}

const canary = "canary-Zq7Xk4";

export interface FormRules {
  readonly fixture: () => EndpointFixture;
  readonly path: string;
  /** What is needed for a form to be good, but for the client. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Members that have to be there. */
  readonly required: readonly string[];
  /** Members that are read. */
  readonly read: readonly string[];
  readonly takesJson: boolean;
}

interface BadForm {
  readonly name: string;
  readonly status: number;
  readonly body: string;
  readonly type?: string;
}

function badForms({ parameters, required, read, takesJson }: FormRules): readonly BadForm[] {
  const given = { ...parameters };
  const form = new URLSearchParams(given).toString();
  const json = JSON.stringify(given);
  const without = (name: string) =>
    new URLSearchParams(Object.entries(given).filter(([other]) => other !== name)).toString();
  const wrongTypes = [
    "text/plain",
    "multipart/form-data; boundary=x",
    `${formType["content-type"]}; charset=latin1`,
  ];
  return [
    ...required.flatMap((name) => [
      { name: `without ${name}`, status: 400, body: without(name) },
      { name: `with an empty ${name}`, status: 400, body: `${without(name)}&${name}=` },
    ]),
    ...read.map((name) => ({
      name: `with ${name} twice`,
      status: 400,
      body: `${without(name)}&${name}=${canary}&${name}=${canary}`,
    })),
    { name: "with an unknown parameter twice", status: 400, body: `${form}&x=${canary}&x=1` },
    { name: "with a percent sign before what is no hex", status: 400, body: `${form}&x=${canary}%zz` },
    { name: "with bytes that are no UTF-8", status: 400, body: `${form}&x=${canary}%ff` },
    { name: "of 16 KiB and a byte", status: 413, body: `${form}&x=${canary}`.padEnd(16 * 1024 + 1, "a") },
    { name: "of no type", status: 415, body: form, type: "" },
    ...wrongTypes.map((type) => ({ name: `sent as ${type}`, status: 415, body: form, type })),
    ...(required.length === 0 ? [] : [{ name: "that is empty", status: 400, body: "" }]),
    takesJson
      ? {
          name: "that is JSON cut short",
          status: 400,
          body: json.slice(0, -1),
          type: jsonType["content-type"],
        }
      : { name: "that is JSON", status: 415, body: json, type: jsonType["content-type"] },
  ];
}

/** How every endpoint that reads a form refuses a bad one: told what is wrong, and nothing of what was sent. */
export function describeFormRules(rules: FormRules): void {
  const { fixture, path } = rules;
  describe(`POST ${path} refuses a form`, () => {
    test.each(badForms(rules))("$name with $status", async ({ status, body, type }) => {
      const headers = { "content-type": type ?? formType["content-type"] };
      const answer = await expectNothingDone(fixture(), () => fixture().send("POST", path, headers, body));
      const description = expectBadRequest(answer, "invalid_request", status);
      expect(description).not.toMatch(/ at |node_modules|src\/|Error/);
      expect(everything(answer)).not.toContain(canary);
      fixture().keepSecret(canary);
    });
  });
}
