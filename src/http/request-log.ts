/** One line for every request, under its request id; paths are logged without their query. */

import { randomUUID } from "node:crypto";
import type { NextFunction, Request, RequestHandler, Response } from "express";
import type { Logger } from "../logger.ts";
import type { Metrics } from "../metrics.ts";

const requestIdPattern = /^[A-Za-z0-9._-]{1,64}$/;

/** Takes the caller's `X-Request-Id` where it is a plain one, and answers with the one used. */
export function requestLog(logger: Logger, metrics: Metrics): RequestHandler {
  return (request: Request, response: Response, next: NextFunction) => {
    const given = request.get("x-request-id");
    const requestId = given !== undefined && requestIdPattern.test(given) ? given : randomUUID();
    const startedAtMs = performance.now();
    const address = request.ip;
    response.locals["log"] = logger.child({ request_id: requestId });
    response.set("X-Request-Id", requestId);
    response.once("close", () => {
      const { method, path } = request;
      const durationMs = performance.now() - startedAtMs;
      const status = response.writableFinished ? response.statusCode : 499;
      const route = (request.route as { path?: string } | undefined)?.path ?? "none";
      metrics.httpRequests.observe({ method: knownMethod(method), route, status }, durationMs / 1000);
      const entry = { method, path, status, duration_ms: Math.round(durationMs * 10) / 10, address };
      requestLogger(response).info(entry, "request");
    });
    next();
  };
}

/** The logger of one request, which adds its id to every line. */
export function requestLogger(response: Response): Logger {
  return response.locals["log"] as Logger;
}

/** Any token can be a method: only known ones become label values. */
function knownMethod(method: string): string {
  return ["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "PUT"].includes(method) ? method : "other";
}
