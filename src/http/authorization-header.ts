/** The Authorization header, of which a request has at most one. */

import type { Request } from "express";

/** All that there are: Node keeps the first of several and says nothing. */
export function authorizationHeaders({ rawHeaders }: Request): readonly string[] {
  return rawHeaders.filter(
    (_, index) => index % 2 === 1 && rawHeaders[index - 1]?.toLowerCase() === "authorization",
  );
}

export function hasAuthorization(request: Request): boolean {
  return authorizationHeaders(request).length > 0;
}
