/** Express middleware that lets requests with a good access token through (RFC 6750). */

import {
  authorizationHeaders,
  type BearerProblem,
  bearerChallenge,
  parseBearer,
} from "../protocol/bearer.ts";
import type { VerifiedClaims } from "./check-claims.ts";
import { VerificationError } from "./errors.ts";
import type { Verifier } from "./verifier.ts";

/** What a request carries once it was let through. */
export interface Auth {
  readonly claims: VerifiedClaims;
  /** Scope-tokens of the token. */
  readonly scopes: readonly string[];
}

declare global {
  namespace Express {
    interface Request {
      /** Set by `requireAuth`. */
      auth: Auth;
    }
  }
}

export interface RequireAuthOptions {
  /** Every one of these scope-tokens: a list, or separated by spaces. */
  readonly scope?: string | readonly string[];
  /** At least one of these. */
  readonly anyScope?: readonly string[];
}

/** What is needed of a request and a response; Node's and Express's have it. */
export interface AuthRequest {
  readonly rawHeaders: readonly string[];
  auth?: Auth;
}
export interface AuthResponse {
  statusCode: number;
  setHeader(name: string, value: string): unknown;
  end(body: string): unknown;
}

export type AuthMiddleware = (
  request: AuthRequest,
  response: AuthResponse,
  next: (error?: unknown) => void,
) => Promise<void>;

/**
 * Sets `req.auth`. Answers 401 without a good token, 403 where its scope does not suffice, 400 for two Authorization
 * headers or a malformed one, 503 with Retry-After where it cannot judge. All faults of tokens look alike to the
 * caller; the reason goes to the verifier's logger. Tokens in query or body are not looked at.
 */
export function requireAuth(verifier: Verifier, options: RequireAuthOptions = {}): AuthMiddleware {
  return async (request, response, next) => {
    const outcome = await authorize(verifier, request.rawHeaders, options);
    if ("auth" in outcome) {
      request.auth = outcome.auth;
      next();
    } else answer(response, outcome);
  };
}

/** Why a request is not let through: status, body and header. */
export interface Denial {
  readonly status: 400 | 401 | 403 | 503;
  readonly error: BearerProblem["error"] | "temporarily_unavailable";
  readonly description: string;
  readonly challenge: string | undefined;
}

/** The decision of `requireAuth`, for whatever else stands in front of services. Never throws. */
export async function authorize(
  verifier: Verifier,
  rawHeaders: readonly string[],
  options: RequireAuthOptions,
): Promise<{ readonly auth: Auth } | Denial> {
  const headers = authorizationHeaders(rawHeaders);
  const [header] = headers;
  if (header === undefined)
    return deny(401, "invalid_token", "An access token is needed.", bearerChallenge());
  if (headers.length > 1) return denyRequest("There is more than one Authorization header.");
  if (!/^bearer( |$)/i.test(header)) {
    return deny(401, "invalid_token", "An access token is needed.", bearerChallenge());
  }
  const token = parseBearer(header);
  if (token === undefined) return denyRequest("The Authorization header is malformed.");
  try {
    const claims = await verifier.verify(token);
    return authorizeScopes(claims, options);
  } catch (error) {
    return denyToken(verifier, error);
  }
}

function authorizeScopes(
  claims: VerifiedClaims,
  options: RequireAuthOptions,
): { readonly auth: Auth } | Denial {
  const scopes = claims.scope.split(" ").filter((scope) => scope !== "");
  const all = scopeTokens(options.scope);
  const any = scopeTokens(options.anyScope);
  const suffices =
    all.every((scope) => scopes.includes(scope)) &&
    (any.length === 0 || any.some((scope) => scopes.includes(scope)));
  if (suffices) return { auth: { claims, scopes } };
  const needed = [...all, ...any].join(" ");
  const challenge = bearerChallenge({ error: "insufficient_scope", scope: needed });
  return deny(
    403,
    "insufficient_scope",
    "The access token does not have the scope that this takes.",
    challenge,
  );
}

function scopeTokens(scope: string | readonly string[] | undefined): readonly string[] {
  const listed = typeof scope === "string" ? scope.split(" ") : (scope ?? []);
  return listed.filter((token) => token !== "");
}

function denyToken(verifier: Verifier, error: unknown): Denial {
  const { code, isUnavailable } =
    error instanceof VerificationError ? error : new VerificationError("keys_unavailable", { cause: error });
  verifier.logger?.warn("an access token was refused", { code });
  if (isUnavailable) {
    return deny(503, "temporarily_unavailable", "The access token cannot be judged right now.", undefined);
  }
  const challenge = bearerChallenge({ error: "invalid_token" });
  return deny(401, "invalid_token", "The access token is not valid.", challenge);
}

function denyRequest(description: string): Denial {
  return deny(400, "invalid_request", description, bearerChallenge({ error: "invalid_request" }));
}

function deny(
  status: Denial["status"],
  error: Denial["error"],
  description: string,
  challenge: string | undefined,
): Denial {
  return { status, error, description, challenge };
}

function answer(response: AuthResponse, { status, error, description, challenge }: Denial): void {
  response.statusCode = status;
  if (challenge !== undefined) response.setHeader("WWW-Authenticate", challenge);
  if (status === 503) response.setHeader("Retry-After", "1");
  response.setHeader("Content-Type", "application/json");
  response.setHeader("Cache-Control", "no-store");
  response.end(JSON.stringify({ error, error_description: description }));
}
