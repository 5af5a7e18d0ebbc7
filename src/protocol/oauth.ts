/** What OAuth puts on the wire: token responses, scope syntax, client identifiers (RFC 6749). */

/** RFC 6749 §5.1: the client credentials grant has no refresh token (§4.4.3). */
export interface ClientTokenResponse {
  readonly access_token: string;
  readonly token_type: "Bearer";
  readonly expires_in: number;
  readonly scope: string;
}

/** RFC 6749 §5.1, with the session's id and the refresh token's idle lifetime beside it. */
export interface TokenResponse extends ClientTokenResponse {
  readonly refresh_token: string;
  readonly refresh_expires_in: number;
  readonly session_id: string;
}

/** Granted only where a request names it. */
export const adminScope = "keyfleet:admin";

/** The `client_id` of a login that names none. */
export const firstPartyClientId = "first-party";

/** One scope-token (RFC 6749 §3.3), of at most 64 characters. */
export const scopeTokenPattern = /^[\x21\x23-\x5b\x5d-\x7e]{1,64}$/;

/** VSCHAR without the space (RFC 6749 A.1), of at most 64 characters. */
export const clientIdPattern = /^[\x21-\x7e]{1,64}$/;

/** Splits a `scope` parameter into distinct scope-tokens; undefined where it is malformed. */
export function parseScope(scope: string): readonly string[] | undefined {
  const tokens = scope.split(" ").filter((token) => token !== "");
  if (!tokens.every((token) => scopeTokenPattern.test(token))) return undefined;
  return [...new Set(tokens)];
}
