/** A compact JWS taken apart, in its one canonical spelling (RFC 7515 §7.1, RFC 8725bis "Check JWT Format Type"). */

import { parseObject } from "./json.ts";

/** Four times what is ever issued; anything longer is refused unread. */
export const compactJwsMaxCharacters = 4096;

/** Three parts of base64url, the last of the 86 characters of an Ed25519 signature. */
const compactJwsPattern = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{86})$/;

export interface CompactJws {
  readonly header: Readonly<Record<string, unknown>>;
  readonly claims: Readonly<Record<string, unknown>>;
}

/**
 * Header and claims, not verified; undefined where the text is no compact JWS of ours: too long, other characters,
 * another spelling of the same bytes, not UTF-8, not JSON objects, members repeated.
 */
export function decodeCompactJws(token: string): CompactJws | undefined {
  if (token.length > compactJwsMaxCharacters) return undefined;
  const [, encodedHeader = "", encodedClaims = "", encodedSignature = ""] =
    compactJwsPattern.exec(token) ?? [];
  const header = decodeObject(encodedHeader);
  const claims = decodeObject(encodedClaims);
  if (header === undefined || claims === undefined || !isCanonical(encodedSignature)) return undefined;
  return { header, claims };
}

/** A byte order mark is no part of JSON: it is kept, and so refused. */
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function decodeObject(encoded: string): Readonly<Record<string, unknown>> | undefined {
  const bytes = decodeBase64url(encoded);
  if (bytes === undefined) return undefined;
  try {
    return parseObject(utf8.decode(bytes));
  } catch {
    return undefined;
  }
}

/** Undefined where the text is not exactly what encoding its bytes gives. */
function decodeBase64url(encoded: string): Uint8Array | undefined {
  if (!isCanonical(encoded)) return undefined;
  const binary = atob(encoded.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = new Uint8Array(binary.length);
  for (let index = 0; index < binary.length; index += 1) bytes[index] = binary.charCodeAt(index);
  return bytes;
}

/** Of a possible length, and without a bit set that encodes nothing: characters whose last 4, or 2, bits are 0. */
function isCanonical(encoded: string): boolean {
  const rest = encoded.length % 4;
  const ends = rest === 2 ? "AQgw" : "AEIMQUYcgkosw048";
  return rest === 0 || (rest !== 1 && ends.includes(encoded.charAt(encoded.length - 1)));
}
