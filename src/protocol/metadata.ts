/** Where the endpoints are and what they can do (OpenID Connect Discovery §3, RFC 8414 §2). */

import type { SigningAlg } from "./jwk.ts";

export const jwksPath = "/.well-known/jwks.json";

/** Paths of the endpoints below the issuer. */
export const endpointPaths = {
  jwks: jwksPath,
  openidConfiguration: "/.well-known/openid-configuration",
  oauthMetadata: "/.well-known/oauth-authorization-server",
  login: "/login",
  token: "/token",
  logout: "/logout",
  revoke: "/revoke",
  introspect: "/introspect",
  userinfo: "/userinfo",
  revocations: "/revocations",
  revocationStream: "/revocations/stream",
} as const;

export interface ServerMetadata {
  readonly issuer: string;
  readonly jwks_uri: string;
  readonly token_endpoint: string;
  readonly revocation_endpoint: string;
  readonly introspection_endpoint: string;
  readonly userinfo_endpoint: string;
  /** Ours: the revocation log, as a snapshot, and below it as a stream. */
  readonly revocation_events_endpoint: string;
  readonly token_endpoint_auth_methods_supported: readonly string[];
  readonly revocation_endpoint_auth_methods_supported: readonly string[];
  readonly introspection_endpoint_auth_methods_supported: readonly string[];
  readonly response_types_supported: readonly string[];
  readonly grant_types_supported: readonly string[];
  readonly subject_types_supported: readonly string[];
  readonly id_token_signing_alg_values_supported: readonly SigningAlg[];
}
