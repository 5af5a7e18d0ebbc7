/** `GET /metrics`, on a port of its own, for Prometheus. */

import type { RequestListener } from "node:http";
import { Refusal } from "../errors.ts";
import type { Metrics } from "../metrics.ts";
import { sendRefusal } from "./error-response.ts";

/** `refresh` sets the gauges that are only worth reading when somebody looks. */
export function metricsEndpoint(metrics: Metrics, refresh: () => void): RequestListener {
  return async (request, response) => {
    if (request.url?.split("?")[0] !== "/metrics") return sendRefusal(response, new Refusal("not_found"));
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.setHeader("Allow", "GET, HEAD");
      return sendRefusal(response, new Refusal("method_not_allowed"));
    }
    refresh();
    const text = await metrics.registry.metrics();
    response.writeHead(200, { "Content-Type": metrics.registry.contentType, "Cache-Control": "no-store" });
    response.end(request.method === "HEAD" ? undefined : text);
  };
}
