/** Serves a published document: ahead of Express where the path is exact, from a route otherwise. */

import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { Refusal } from "../errors.ts";
import type { Metrics } from "../metrics.ts";
import { sendRefusal, statusOf } from "./error-response.ts";
import { sendHotDocument } from "./hot-document.ts";
import type { PublishedDocuments } from "./published-documents.ts";

/** False where the path is none of a document. */
export function serveDocument(
  documents: PublishedDocuments,
  metrics: Metrics,
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): boolean {
  const document = documents.find(path);
  if (document === undefined) return false;
  const { name, content } = document;
  if (content instanceof Refusal) {
    response.setHeader("Access-Control-Allow-Origin", "*");
    sendRefusal(response, content);
    metrics.documentsServed.inc({ document: name, status: statusOf(content) });
  } else {
    const status = sendHotDocument(content, request, response);
    metrics.documentsServed.inc({ document: name, status });
  }
  return true;
}

/** An Express application, which calls `next` for what it cannot even parse. */
type Application = (request: IncomingMessage, response: ServerResponse, next: () => void) => void;

/** Whatever is not GET or HEAD for a document's exact path goes on to the application: a query string, an OPTIONS. */
export function documentsInFrontOf(
  application: Application,
  documents: PublishedDocuments,
  metrics: Metrics,
): RequestListener {
  return (request, response) => {
    const { url: target = "", method } = request;
    const refuse = () => sendRefusal(response, new Refusal("invalid_request"));
    // An absolute target (RFC 9112 §3.2.2) that is no URL would bring Express's own error page.
    if (!/^[/*]/.test(target) && !URL.canParse(target)) return refuse();
    const isRead = (method === "GET" || method === "HEAD") && !target.includes("?");
    if (isRead && serveDocument(documents, metrics, target, request, response)) return;
    application(request, response, refuse);
  };
}
