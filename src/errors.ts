/** The closed table of what can be refused; `http/error-response.ts` alone knows how HTTP says it. */

/** Every code with its meaning; the table in docs/http.md is compared with this one by a test. */
export const errorMeanings = {
  invalid_request: "The request is malformed: a member is missing, repeated, of the wrong type or too long.",
  invalid_grant: "The refresh token is unknown, expired, used up, or of another client.",
  unsupported_grant_type: "This grant type is not supported.",
  invalid_scope: "The scope asked for is malformed, unknown, or more than the account has.",
  invalid_target: "The audience asked for is not one this server issues tokens for.",
  invalid_credentials: "The username or the password is wrong.",
  invalid_client: "Client authentication failed.",
  invalid_token: "The access token is missing, malformed, expired or revoked.",
  insufficient_scope: "The access token does not have the scope that this takes.",
  address_not_allowed: "Tokens are not issued to this network address.",
  password_change_required: "The password must be changed before tokens are issued.",
  too_many_attempts: "Too many failed attempts; try again later.",
  temporarily_unavailable: "The server cannot do this right now; try again later.",
  cursor_expired: "The cursor is of another epoch: start from the snapshot.",
  unknown_key: "No key with this kid is published.",
  revoked_key: "The key with this kid was revoked.",
  not_found: "There is nothing at this path.",
  method_not_allowed: "This path does not take this method.",
  server_error: "Something went wrong here.",
} as const;

export type ErrorCode = keyof typeof errorMeanings;

export interface RefusalDetails {
  /** Says more than the table does; never contains a secret or anything the caller sent. */
  readonly description?: string;
  readonly retryAfterSeconds?: number;
  readonly cause?: unknown;
}

/** A refusal that may be told to the caller. Everything else that is thrown becomes a bare `server_error`. */
export class Refusal extends Error {
  readonly code: ErrorCode;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, details: RefusalDetails = {}) {
    super(details.description ?? errorMeanings[code], { cause: details.cause });
    this.name = "Refusal";
    this.code = code;
    this.retryAfterSeconds = details.retryAfterSeconds;
  }
}

/** What is said while a part that is needed is away: the caller may try again in a second. */
export function unavailable(description: string, cause?: unknown): Refusal {
  return new Refusal("temporarily_unavailable", { description, retryAfterSeconds: 1, cause });
}
