/** The table of routes: every method and path that is served, and by what. */

import type { RequestHandler } from "express";
import type { Metrics } from "../metrics.ts";
import { endpointPaths as paths } from "../protocol/metadata.ts";
import type { RevocationLog } from "../revocation/revocation-log.ts";
import { type AccountEndpointDependencies, createAccountEndpoints } from "./account-endpoints.ts";
import { createHealthHandlers, type HealthSource } from "./health.ts";
import { createIntrospectHandler, type IntrospectDependencies } from "./introspect.ts";
import { createLoginHandler, type LoginDependencies } from "./login.ts";
import { createLogoutHandler, type LogoutDependencies } from "./logout.ts";
import { createPasswordHandler, type PasswordDependencies } from "./password.ts";
import type { PublishedDocuments } from "./published-documents.ts";
import { rawBody } from "./read-body.ts";
import { createRevocationSnapshotHandler, type RevocationStream } from "./revocations.ts";
import { createRevokeHandler, type RevokeDependencies } from "./revoke.ts";
import { serveDocument } from "./serve-document.ts";
import { createTokenHandler, type TokenDependencies } from "./token.ts";

/** What the endpoints need, each its own. */
export interface Endpoints {
  readonly metrics: Metrics;
  readonly documents: PublishedDocuments;
  readonly health: HealthSource;
  readonly login: LoginDependencies;
  readonly token: TokenDependencies;
  readonly logout: LogoutDependencies;
  readonly revoke: RevokeDependencies;
  readonly introspect: IntrospectDependencies;
  readonly account: AccountEndpointDependencies;
  readonly password: PasswordDependencies;
  readonly revocations: RevocationLog;
  readonly revocationStream: RevocationStream;
}

export interface Route {
  readonly method: "get" | "post" | "delete";
  readonly path: string;
  readonly handlers: readonly RequestHandler[];
}

export function routes(endpoints: Endpoints): readonly Route[] {
  const health = createHealthHandlers(endpoints.health);
  const account = createAccountEndpoints(endpoints.account);
  const document: RequestHandler = (request, response, next) => {
    if (!serveDocument(endpoints.documents, endpoints.metrics, request.path, request, response)) next();
  };
  const get = (path: string, handler: RequestHandler): Route => ({
    method: "get",
    path,
    handlers: [handler],
  });
  const post = (path: string, handler: RequestHandler): Route => ({
    method: "post",
    path,
    handlers: [rawBody, handler],
  });
  return [
    get(paths.jwks, document),
    get("/.well-known/jwks/:kid", document),
    get(paths.openidConfiguration, document),
    get(paths.oauthMetadata, document),
    post(paths.login, createLoginHandler(endpoints.login)),
    post(paths.token, createTokenHandler(endpoints.token)),
    post(paths.logout, createLogoutHandler(endpoints.logout)),
    post(paths.revoke, createRevokeHandler(endpoints.revoke)),
    post(paths.introspect, createIntrospectHandler(endpoints.introspect)),
    post("/password", createPasswordHandler(endpoints.password)),
    get(paths.userinfo, account.userinfo),
    get("/sessions", account.listSessions),
    { method: "delete", path: "/sessions/:id", handlers: [account.endSession] },
    get(paths.revocations, createRevocationSnapshotHandler(endpoints.revocations)),
    get(paths.revocationStream, (request, response) => endpoints.revocationStream.handler(request, response)),
    get("/healthz", health.healthz),
    get("/readyz", health.readyz),
    get("/readyz/issue", health.readyzIssue),
  ];
}
