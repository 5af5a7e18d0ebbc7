/** The HTTP application: middleware in order, then the table of routes, then what is left over. */

import cors from "cors";
import express, {
  type Express,
  type NextFunction,
  type Request,
  type RequestHandler,
  type Response,
} from "express";
import helmet from "helmet";
import { Refusal } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { sendRefusal, statusOf, toRefusal } from "./error-response.ts";
import { requestLog, requestLogger } from "./request-log.ts";
import { type Endpoints, type Route, routes } from "./routes.ts";

export interface ApplicationDependencies extends Endpoints {
  readonly logger: Logger;
  /** Proxies whose `X-Forwarded-For` counts. */
  readonly trustedProxies: readonly string[];
  /** Origins that may call everything but the published documents, which any origin may read. */
  readonly corsOrigins: readonly string[];
  /** Whether an error means that the database is away, which is answered with 503. */
  isUnavailable(error: unknown): boolean;
}

/** What is served here is read by programs: no answer may load, run or be framed. */
const nothingIsLoaded = { "default-src": ["'none'"], "frame-ancestors": ["'none'"], "base-uri": ["'none'"] };

export function createApplication(deps: ApplicationDependencies): Express {
  const app = express();
  app.disable("x-powered-by");
  app.disable("etag");
  app.set("query parser", "simple");
  app.set("case sensitive routing", true);
  app.set("strict routing", true);
  app.set("trust proxy", [...deps.trustedProxies]);
  app.use(helmet({ contentSecurityPolicy: { useDefaults: false, directives: nothingIsLoaded } }));
  app.use(requestLog(deps.logger, deps.metrics));
  if (deps.corsOrigins.length > 0) app.use(privateCors(deps.corsOrigins));
  mount(app, routes(deps));
  app.use(() => {
    throw new Refusal("not_found");
  });
  app.use(errorHandler(deps));
  return app;
}

/** A path with routes answers every other method with 405 and what it allows (RFC 9110 §15.5.6). */
function mount(app: Express, table: readonly Route[]): void {
  for (const path of new Set(table.map((route) => route.path))) {
    const here = table.filter((route) => route.path === path);
    const methods = here.map((route) => route.method.toUpperCase());
    const allow = methods.flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method])).join(", ");
    const route = app.route(path);
    for (const { method, handlers } of here) route[method](...handlers);
    if (isPublished(path)) route.options(cors({ methods: ["GET", "HEAD"], maxAge: 86_400 }));
    route.all((_request, response) => {
      response.set("Allow", allow);
      throw new Refusal("method_not_allowed");
    });
  }
}

const isPublished = (path: string) => path.startsWith("/.well-known/");

function privateCors(origins: readonly string[]): RequestHandler {
  const allow = cors({
    origin: [...origins],
    methods: ["GET", "POST", "PATCH", "DELETE"],
    allowedHeaders: ["Authorization", "Content-Type", "Last-Event-ID", "X-Request-Id"],
    exposedHeaders: ["ETag", "WWW-Authenticate", "Retry-After", "X-As-Of", "X-Request-Id"],
    maxAge: 600,
  });
  return (request, response, next) => {
    if (isPublished(request.path)) next();
    else allow(request, response, next);
  };
}

function errorHandler(deps: ApplicationDependencies) {
  return (error: unknown, _request: Request, response: Response, _next: NextFunction): void => {
    const refusal = toRefusal(error, deps.isUnavailable);
    const log = requestLogger(response);
    if (refusal.code === "server_error") log.error({ err: error }, "unexpected error");
    else if (refusal.cause !== undefined) log.warn({ err: refusal.cause, error: refusal.code }, "refused");
    if (response.headersSent || (error as { type?: unknown } | null)?.type === "request.aborted") {
      response.destroy();
      return;
    }
    if (statusOf(refusal) === 413) response.set("Connection", "close");
    sendRefusal(response, refusal);
  };
}
