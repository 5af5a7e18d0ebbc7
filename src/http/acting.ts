/** Who asks, for the audit: an address always, an actor once somebody was authenticated. */

import type { Request } from "express";
import type { Acting } from "../audit.ts";
import { canonicalAddress } from "./address.ts";

export function actingOf(request: Request, instanceId: string, actor: string | null = null): Acting {
  return { actor, instanceId, address: canonicalAddress(request.ip ?? "") };
}
