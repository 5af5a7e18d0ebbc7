/** A forward-auth server: the verifier for any language behind nginx, Traefik or Envoy. */

import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import type { Logger } from "../logger.ts";
import { parseScope } from "../protocol/oauth.ts";
import type { Auth, Denial } from "../verifier/index.ts";
import { authorize, type Verifier } from "../verifier/index.ts";
import type { GatewayMetrics } from "./gateway-metrics.ts";

export interface GatewayOptions {
  readonly verifier: Verifier;
  readonly logger: Logger;
  readonly metrics: GatewayMetrics;
  /** Seconds of staleness from which `/readyz` says 503. */
  readonly isReady: () => boolean;
}

const verifyPath = "/verify";

type Handler = (request: IncomingMessage, response: ServerResponse, url: URL) => Promise<void> | void;

/**
 * `GET /verify[?scope=…]` with the caller's Authorization header: 200 with who it is in headers, or why not.
 * `GET /healthz`, `/readyz`, `/metrics`.
 */
export function createGateway(options: GatewayOptions): RequestListener {
  const { metrics, logger } = options;
  const handlers: Readonly<Record<string, Handler>> = {
    [verifyPath]: (request, response, url) => verify(options, request, response, url),
    "/healthz": (_request, response) => sendJson(response, 200, { status: "ok", checks: {} }),
    "/readyz": (_request, response) => {
      const ready = options.isReady();
      sendJson(response, ready ? 200 : 503, {
        status: ready ? "ok" : "unavailable",
        checks: { judging: ready },
      });
    },
    "/metrics": async (_request, response) => {
      response.writeHead(200, { "Content-Type": metrics.registry.contentType, "Cache-Control": "no-store" });
      response.end(await metrics.registry.metrics());
    },
  };
  return async (request, response) => {
    const target = request.url ?? "";
    const url = URL.canParse(target, "http://gateway") ? new URL(target, "http://gateway") : undefined;
    const path = url?.pathname.startsWith(`${verifyPath}/`) ? verifyPath : url?.pathname;
    const handler = path === undefined ? undefined : handlers[path];
    if (url === undefined || handler === undefined) return sendJson(response, 404, { error: "not_found" });
    try {
      await handler(request, response, url);
    } catch (error) {
      logger.error({ err: error }, "unexpected error");
      sendJson(response, 500, { error: "server_error" });
    }
  };
}

async function verify(
  { verifier, metrics }: GatewayOptions,
  request: IncomingMessage,
  response: ServerResponse,
  url: URL,
): Promise<void> {
  const scopes = requiredScopes(url);
  const outcome =
    scopes === undefined ? malformedScope : await authorize(verifier, request.rawHeaders, { scope: scopes });
  if ("auth" in outcome) {
    metrics.decisions.inc({ status: 200 });
    response.writeHead(200, { ...identityHeaders(outcome.auth), "Cache-Control": "no-store" });
    response.end();
    return;
  }
  metrics.decisions.inc({ status: outcome.status });
  deny(response, outcome);
}

/**
 * Of the path `/verify` alone, which the operator writes: below it, where Envoy puts the caller's own path and query,
 * nothing is read. Undefined where they are no scope-tokens.
 */
function requiredScopes({ pathname, searchParams }: URL): readonly string[] | undefined {
  return pathname === verifyPath ? parseScope(searchParams.getAll("scope").join(" ")) : [];
}

const malformedScope: Denial = {
  status: 400,
  error: "invalid_request",
  description: "The scope is malformed.",
  challenge: undefined,
};

/** All of them, always: a proxy that copies them overwrites whatever a caller sent under these names. */
function identityHeaders({ claims, scopes }: Auth): Readonly<Record<string, string>> {
  return {
    "X-Auth-Subject": headerValue(claims.sub),
    "X-Auth-Scope": headerValue(scopes.join(" ")),
    "X-Auth-Session": headerValue(claims.rid ?? ""),
    "X-Auth-Client": headerValue(claims.client_id),
  };
}

/** Printable ASCII; anything else is percent-encoded, so that no claim can end a header or begin another. */
function headerValue(text: string): string {
  return text.replace(/[^\x20-\x7e]/gu, (character) =>
    encodeURIComponent(character.isWellFormed() ? character : "\ufffd"),
  );
}

function deny(response: ServerResponse, { status, error, description, challenge }: Denial): void {
  if (challenge !== undefined) response.setHeader("WWW-Authenticate", challenge);
  if (status === 503) response.setHeader("Retry-After", "1");
  sendJson(response, status, { error, error_description: description });
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "Content-Type": "application/json", "Cache-Control": "no-store" });
  response.end(JSON.stringify(body));
}
