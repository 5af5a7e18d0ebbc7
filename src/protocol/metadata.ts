/** Where the endpoints are and what they can do (OpenID Connect Discovery §3, RFC 8414 §2). */

import type { SigningAlg } from "./jwk.ts";

export const jwksPath = "/.well-known/jwks.json";

/** Paths of the endpoints below the issuer. */
export const endpointPaths = {
  jwks: jwksPath,
  openidConfiguration: "/.well-known/openid-configuration",
  oauthMetadata: "/.well-known/oauth-authorization-server",
  login: "/login",
} as const;

export interface ServerMetadata {
  readonly issuer: string;
  readonly jwks_uri: string;
  readonly response_types_supported: readonly string[];
  readonly grant_types_supported: readonly string[];
  readonly subject_types_supported: readonly string[];
  readonly id_token_signing_alg_values_supported: readonly SigningAlg[];
}
