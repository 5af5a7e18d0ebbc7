/** The JOSE header of an access token, before anything is fetched for it (RFC 8725 §3.1, §3.10, §3.11). */

import { accessTokenType } from "../protocol/access-token.ts";
import { kidPattern } from "../protocol/jwk.ts";
import { VerificationError } from "./errors.ts";
import type { VerifierAlgorithm } from "./options.ts";

export interface CheckedHeader {
  readonly alg: VerifierAlgorithm;
  readonly kid: string;
}

const members: ReadonlySet<string> = new Set(["alg", "kid", "typ"]);

/**
 * Throws `invalid_algorithm`, `invalid_type`, and `malformed_token` for any other member: `jwk`, `jku`, `x5u`, `x5c`,
 * `crit`, `b64`, `zip`, `cty` have no business here.
 */
export function checkHeader(
  header: Readonly<Record<string, unknown>>,
  algorithms: readonly VerifierAlgorithm[],
): CheckedHeader {
  const { alg, typ, kid } = header;
  const accepted = algorithms.find((algorithm) => algorithm === alg);
  if (accepted === undefined) throw new VerificationError("invalid_algorithm");
  if (typeof typ !== "string" || !isAccessTokenType(typ)) throw new VerificationError("invalid_type");
  if (!Object.keys(header).every((name) => members.has(name))) throw new VerificationError("malformed_token");
  if (typeof kid !== "string" || !kidPattern.test(kid)) throw new VerificationError("malformed_token");
  return { alg: accepted, kid };
}

/** RFC 7515 §4.1.9: a media type, compared without case, whose `application/` may be left out. */
function isAccessTokenType(typ: string): boolean {
  return typ.toLowerCase().replace(/^application\//, "") === accessTokenType;
}
