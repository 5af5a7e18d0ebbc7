/** `/healthz`, `/readyz` and `/readyz/issue`: alive, fit for traffic, fit to issue tokens. */

import type { Request, Response } from "express";

/** Each check by name: true where all is well. */
export type Checks = Readonly<Record<string, boolean>>;

export interface HealthSource {
  /** For `/readyz`: with the database away the JWKS and verification must stay reachable. */
  readiness(): Checks;
  /** For `/readyz/issue`: what issuing a token needs besides. */
  issuing(): Promise<Checks>;
}

function send(response: Response, checks: Checks): void {
  const ok = Object.values(checks).every(Boolean);
  response
    .status(ok ? 200 : 503)
    .set("Cache-Control", "no-store")
    .json({ status: ok ? "ok" : "unavailable", checks });
}

export function createHealthHandlers(source: HealthSource) {
  return {
    healthz: (_request: Request, response: Response) => send(response, {}),
    readyz: (_request: Request, response: Response) => send(response, source.readiness()),
    readyzIssue: async (_request: Request, response: Response) =>
      send(response, { ...source.readiness(), ...(await source.issuing()) }),
  };
}
