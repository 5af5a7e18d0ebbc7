/** The only map from error codes to HTTP: status, body, headers (RFC 6749 §5.2). */

import type { ServerResponse } from "node:http";
import { type ErrorCode, errorMeanings, Refusal } from "../errors.ts";
import { bearerChallenge } from "../protocol/bearer.ts";

export const statusByCode: Record<ErrorCode, number> = {
  invalid_request: 400,
  invalid_grant: 400,
  unsupported_grant_type: 400,
  invalid_scope: 400,
  invalid_target: 400,
  invalid_credentials: 401,
  invalid_client: 401,
  invalid_token: 401,
  insufficient_scope: 403,
  address_not_allowed: 403,
  password_change_required: 403,
  cursor_expired: 410,
  unknown_key: 404,
  not_found: 404,
  method_not_allowed: 405,
  revoked_key: 410,
  too_many_attempts: 429,
  server_error: 500,
  temporarily_unavailable: 503,
};

/** A refusal for which the table's status is too coarse: 413 and 415 are `invalid_request` too. */
export class HttpRefusal extends Refusal {
  readonly status: number;

  constructor(status: number, description: string) {
    super("invalid_request", { description });
    this.status = status;
  }
}

/** No credentials of the kind that is needed: the challenge then names no error (RFC 6750 §3.1). */
export class MissingCredentials extends Refusal {
  constructor() {
    super("invalid_token", { description: "An access token is needed." });
  }
}

/** A request that is malformed in how it presents a token (RFC 6750 §3.1). */
export class MalformedBearer extends Refusal {
  constructor(description: string) {
    super("invalid_request", { description });
  }
}

/** WWW-Authenticate, where the status is 401 or a token's scope is short (RFC 6750 §3, RFC 6749 §5.2). */
function challengeOf(refusal: Refusal): string | undefined {
  if (refusal instanceof MissingCredentials) return bearerChallenge();
  if (refusal instanceof MalformedBearer) return bearerChallenge({ error: "invalid_request" });
  const { code } = refusal;
  if (code === "invalid_client") return 'Basic realm="keyfleet"';
  return code === "invalid_token" || code === "insufficient_scope"
    ? bearerChallenge({ error: code })
    : undefined;
}

export function statusOf(refusal: Refusal): number {
  return refusal instanceof HttpRefusal ? refusal.status : statusByCode[refusal.code];
}

/** What body-parser, the router and Node throw at malformed requests, as refusals; undefined for everything else. */
function refusalOfFramework(error: unknown): Refusal | undefined {
  const { status, type } = (error ?? {}) as { status?: unknown; type?: unknown };
  if (type === "entity.too.large") return new HttpRefusal(413, "The body is larger than 16 KiB.");
  if (type === "encoding.unsupported")
    return new HttpRefusal(415, "The body's content coding is not supported.");
  if (typeof status === "number" && status >= 400 && status < 500) return new Refusal("invalid_request");
  return undefined;
}

/** Turns whatever was thrown into what may be told; `isUnavailable` knows a database that is away. */
export function toRefusal(error: unknown, isUnavailable: (error: unknown) => boolean): Refusal {
  if (error instanceof Refusal) return error;
  const refusal = refusalOfFramework(error);
  if (refusal !== undefined) return refusal;
  if (isUnavailable(error)) {
    return new Refusal("temporarily_unavailable", { retryAfterSeconds: 1, cause: error });
  }
  return new Refusal("server_error", { cause: error });
}

/** Every refusal is `{error, error_description}` and is stored by nobody. */
export function sendRefusal(response: ServerResponse, refusal: Refusal): void {
  const body = JSON.stringify({
    error: refusal.code,
    error_description: refusal.message || errorMeanings[refusal.code],
  });
  response.statusCode = statusOf(refusal);
  response.setHeader("Content-Type", "application/json");
  response.setHeader("Cache-Control", "no-store");
  response.setHeader("X-Content-Type-Options", "nosniff");
  const challenge = challengeOf(refusal);
  if (challenge !== undefined) response.setHeader("WWW-Authenticate", challenge);
  if (refusal.retryAfterSeconds !== undefined)
    response.setHeader("Retry-After", String(refusal.retryAfterSeconds));
  response.end(body);
}
