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
  const [, encodedHeader, encodedClaims, encodedSignature] = compactJwsPattern.exec(token) ?? [];
  const header = decodeObject(encodedHeader);
  const claims = decodeObject(encodedClaims);
  const signature = decodeBase64url(encodedSignature);
  if (header === undefined || claims === undefined || signature === undefined) return undefined;
  return { header, claims };
}

/** A byte order mark is no part of JSON: it is kept, and so refused. */
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function decodeObject(encoded: string | undefined): Readonly<Record<string, unknown>> | undefined {
  const bytes = decodeBase64url(encoded);
  if (bytes === undefined) return undefined;
  try {
    return parseObject(utf8.decode(bytes));
  } catch {
    return undefined;
  }
}

/** Undefined where the text is not exactly what encoding its bytes gives: unused bits set, or an impossible length. */
function decodeBase64url(encoded: string | undefined): Uint8Array | undefined {
  if (encoded === undefined) return undefined;
  const base64 = encoded.replaceAll("-", "+").replaceAll("_", "/");
  try {
    const binary = atob(base64);
    if (btoa(binary).replace(/=+$/, "") !== base64) return undefined;
    return Uint8Array.from(binary, (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}
