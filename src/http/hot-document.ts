/** Documents that change only with the keys, kept ready as bytes, so that serving one costs next to nothing. */

import { createHash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { brotliCompressSync, gzipSync } from "node:zlib";

type Coding = "identity" | "gzip" | "br";

interface Variant {
  readonly body: Buffer;
  readonly headers: readonly string[];
  readonly notModifiedHeaders: readonly string[];
}

export interface HotDocument {
  /** The strong ETags of all codings (RFC 9110 §8.8.3: a coding of its own has an ETag of its own). */
  readonly etags: ReadonlySet<string>;
  variant(coding: Coding): Variant;
}

const compress: Record<Coding, (body: Buffer) => Buffer> = {
  identity: (body) => body,
  gzip: (body) => gzipSync(body, { level: 9 }),
  br: (body) => brotliCompressSync(body),
};

/** Public, for any origin, in three codings; each is compressed when it is first asked for. */
export function createHotDocument(text: string, contentType: string, cacheControl: string): HotDocument {
  const identity = Buffer.from(text);
  const hash = createHash("sha256").update(identity).digest("base64url").slice(0, 27);
  const etag = (coding: Coding) => (coding === "identity" ? `"${hash}"` : `"${hash}-${coding}"`);
  const variants = new Map<Coding, Variant>();

  function createVariant(coding: Coding): Variant {
    const body = compress[coding](identity);
    const shared = [
      ...["Cache-Control", cacheControl],
      ...["Vary", "Accept-Encoding"],
      ...["ETag", etag(coding)],
      ...["Access-Control-Allow-Origin", "*"],
      ...["Access-Control-Expose-Headers", "ETag"],
      ...["X-Content-Type-Options", "nosniff"],
    ];
    const described = [...shared, "Content-Type", contentType, "Content-Length", String(body.length)];
    const headers = coding === "identity" ? described : [...described, "Content-Encoding", coding];
    return { body, headers, notModifiedHeaders: shared };
  }

  return {
    etags: new Set([etag("identity"), etag("gzip"), etag("br")]),
    variant(coding) {
      const variant = variants.get(coding) ?? createVariant(coding);
      variants.set(coding, variant);
      return variant;
    },
  };
}

/** Whether an Accept-Encoding header takes a coding (RFC 9110 §12.5.3); `q=0` refuses it. */
function accepts(header: string, coding: Coding): boolean {
  for (const part of header.split(",")) {
    const [name = "", ...parameters] = part.trim().toLowerCase().split(";");
    if (name.trim() === coding) return !parameters.some((parameter) => /^\s*q=0(\.0*)?\s*$/.test(parameter));
  }
  return false;
}

function chooseCoding(header: string | string[] | undefined): Coding {
  if (typeof header !== "string") return "identity";
  if (accepts(header, "br")) return "br";
  return accepts(header, "gzip") ? "gzip" : "identity";
}

/** Weak comparison against the ETag of any coding (RFC 9110 §13.1.2). */
function isFresh(document: HotDocument, ifNoneMatch: string | undefined): boolean {
  if (ifNoneMatch === undefined) return false;
  if (ifNoneMatch.trim() === "*") return true;
  return ifNoneMatch.split(",").some((etag) => document.etags.has(etag.trim().replace(/^W\//, "")));
}

/** Answers GET or HEAD, conditional or not; returns the status. */
export function sendHotDocument(
  document: HotDocument,
  request: Pick<IncomingMessage, "headers" | "method">,
  response: ServerResponse,
): 200 | 304 {
  const variant = document.variant(chooseCoding(request.headers["accept-encoding"]));
  if (isFresh(document, request.headers["if-none-match"])) {
    response.writeHead(304, [...variant.notModifiedHeaders]);
    response.end();
    return 304;
  }
  response.writeHead(200, [...variant.headers]);
  response.end(request.method === "HEAD" ? undefined : variant.body);
  return 200;
}
