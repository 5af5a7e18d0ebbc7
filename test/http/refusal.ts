/** What every refusal has in common, and what the log may say of it. */

import { expect } from "@jest/globals";
import type { TestInstance } from "../support/instance.ts";
import type { RawAnswer } from "./raw-request.ts";

/** Exactly `{error, error_description}`, which nobody stores; returns the description. */
export function expectRefusal(answer: RawAnswer, status: number, error: string): string {
  const body = JSON.parse(answer.body.toString()) as Record<string, unknown>;
  expect({ status: answer.status, ...body }).toEqual({
    status,
    error,
    error_description: expect.stringMatching(/^\S[^\p{Cc}]{3,150}\S$/u),
  });
  expect(answer.headers["content-type"]).toBe("application/json");
  expect(answer.headers["cache-control"]).toBe("no-store");
  expect(answer.headers["x-content-type-options"]).toBe("nosniff");
  return String(body["error_description"]);
}

/** The whole answer as one text: to search for what must not be told. */
export function everything(answer: RawAnswer): string {
  return JSON.stringify(answer.headers) + answer.body.toString();
}

export type LogLine = Readonly<Record<string, unknown>>;

function parseLine(line: string): LogLine {
  if (!line.startsWith("{")) throw new Error(`not a line of JSON: ${JSON.stringify(line)}`);
  return JSON.parse(line) as LogLine;
}

function completeLines(instance: TestInstance): string[] {
  return instance.output().split("\n").slice(0, -1);
}

/** Every line so far; throws where one is not a JSON object. */
export function logLines(instance: TestInstance): LogLine[] {
  return completeLines(instance).map(parseLine);
}

/** The lines written for one request. */
export function linesOf(instance: TestInstance, requestId: string): LogLine[] {
  return completeLines(instance)
    .filter((line) => line.includes(`"${requestId}"`))
    .map(parseLine);
}
