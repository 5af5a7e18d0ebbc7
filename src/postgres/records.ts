/** Composite parameters: values that a function takes together, passed as JSON by the names of their columns. */

import type { Acting } from "../audit.ts";
import type { Seal } from "../seal.ts";
import type { IssueRequest, IssuingSettings } from "../tokens/issuing.ts";
import { interval, timestamp } from "./pool.ts";

/** For `jsonb_populate_record(null::keyfleet.acting, $n)`. */
export function actingRecord({ actor, instanceId, address }: Acting): object {
  return { actor, instance_id: instanceId, address };
}

/** For `jsonb_populate_record(null::keyfleet.issuer, $n)`. */
export function issuerRecord(
  settings: Omit<IssuingSettings, "issuer">,
  { offer, lending, nowEstimateMs }: Omit<IssueRequest, "jti">,
): object {
  return {
    instance_id: settings.instanceId,
    candidates: offer.settled,
    unsettled: offer.unsettled,
    lenders: lending.lenders,
    avoided: lending.avoided,
    hearing: lending.hearing,
    propagation_delay: interval(settings.propagationDelayMs),
    now_estimate: timestamp(nowEstimateMs),
    token_ttl: interval(settings.accessTokenTtlMs),
    verify_grace: interval(settings.verifyGraceMs),
  };
}

/** A bytea as JSON carries it. */
export function bytea(bytes: Buffer): string {
  return `\\x${bytes.toString("hex")}`;
}

/** The columns of a seal. */
export function sealColumns({ secretId, seal }: Seal): { secret_id: string; seal: string } {
  return { secret_id: secretId, seal: bytea(seal) };
}
