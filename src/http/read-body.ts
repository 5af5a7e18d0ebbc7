/** Request bodies: JSON or form, checked so strictly that what is parsed is what was meant (RFC 6749 §3.2). */

import express, { type Request, type RequestHandler } from "express";
import type { z } from "zod";
import { Refusal } from "../errors.ts";
import { parseObject } from "../protocol/json.ts";
import { HttpRefusal } from "./error-response.ts";

const bodyMaxBytes = 16 * 1024;
const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Collects the raw body; nothing is inflated, and 16 KiB is the end. */
export const rawBody: RequestHandler = express.raw({ type: () => true, limit: bodyMaxBytes, inflate: false });

export type MediaType = "application/json" | "application/x-www-form-urlencoded";

/**
 * The body as `schema` describes it; unknown members are ignored (RFC 6749 §3.2).
 * Throws `invalid_request`, with 415 where the content type is none of `mediaTypes`.
 */
export function readBody<Schema extends z.ZodType>(
  request: Request,
  schema: Schema,
  mediaTypes: readonly MediaType[] = ["application/json", "application/x-www-form-urlencoded"],
): z.infer<Schema> {
  const mediaType = mediaTypes.find((type) => request.is(type));
  if (mediaType === undefined || !hasUtf8Charset(request)) {
    throw new HttpRefusal(415, `The content type must be ${mediaTypes.join(" or ")}.`);
  }
  const text = decode(request.body);
  const members = mediaType === "application/json" ? parseJson(text) : parseForm(text);
  const parsed = schema.safeParse(members);
  if (!parsed.success) throw malformed(describe(parsed.error));
  return parsed.data;
}

function malformed(description: string): Refusal {
  return new Refusal("invalid_request", { description });
}

/** Names the member and what is wrong with it; never its value. */
function describe(error: z.ZodError): string {
  const [issue] = error.issues;
  const member = issue?.path.join(".") ?? "";
  if (member === "") return "The body must be an object.";
  return issue?.code === "invalid_type"
    ? `${member} is missing or of the wrong type`
    : `${member} is malformed`;
}

function hasUtf8Charset(request: Request): boolean {
  const match = /;\s*charset="?([^";\s]+)"?/i.exec(request.headers["content-type"] ?? "");
  return match === null || /^utf-?8$/i.test(match[1] ?? "");
}

function decode(body: unknown): string {
  try {
    return Buffer.isBuffer(body) ? utf8.decode(body) : "";
  } catch {
    throw malformed("The body is not UTF-8.");
  }
}

function parseJson(text: string): Readonly<Record<string, unknown>> {
  const value = parseObject(text);
  if (value === undefined) throw malformed("The body is not a JSON object without repeated members.");
  return value;
}

/** Percent-encoded UTF-8, decoded strictly: a byte that is none would otherwise become the same as any other. */
function parseForm(text: string): Record<string, string> {
  const members = new Map<string, string>();
  for (const pair of text.split("&").filter((part) => part !== "")) {
    const [name, value] = splitPair(pair);
    if (members.has(name)) throw malformed("A parameter is repeated.");
    members.set(name, value);
  }
  return Object.fromEntries([...members].filter(([, value]) => value !== ""));
}

function splitPair(pair: string): [string, string] {
  const equals = pair.indexOf("=");
  const [name, value] = equals < 0 ? [pair, ""] : [pair.slice(0, equals), pair.slice(equals + 1)];
  try {
    return [decodeURIComponent(name.replaceAll("+", " ")), decodeURIComponent(value.replaceAll("+", " "))];
  } catch {
    throw malformed("A parameter is not percent-encoded UTF-8.");
  }
}
