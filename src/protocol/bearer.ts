/** Bearer tokens in requests, and the challenge that refuses them (RFC 6750). */

/** All Authorization headers of a request's raw ones: Node keeps the first of several and says nothing. */
export function authorizationHeaders(rawHeaders: readonly string[]): readonly string[] {
  return rawHeaders.filter(
    (_, index) => index % 2 === 1 && rawHeaders[index - 1]?.toLowerCase() === "authorization",
  );
}

/** b64token (RFC 6750 §2.1). */
const bearerPattern = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i;

/** The token of an Authorization header; undefined where the header is of another scheme or malformed. */
export function parseBearer(authorization: string): string | undefined {
  return bearerPattern.exec(authorization)?.[1];
}

export interface BearerProblem {
  readonly error: "invalid_request" | "invalid_token" | "insufficient_scope";
  /** Required by the request, where that is what is missing. */
  readonly scope?: string;
}

/** WWW-Authenticate (RFC 6750 §3): without credentials in the request it names no error, but has to name something. */
export function bearerChallenge(problem?: BearerProblem): string {
  if (problem === undefined) return 'Bearer realm="keyfleet"';
  const scope = problem.scope === undefined ? "" : `, scope="${problem.scope}"`;
  return `Bearer error="${problem.error}"${scope}`;
}
