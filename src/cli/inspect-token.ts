/** What `keyfleet token inspect` tells: what a token says, the state of its key, and whether it is good. */

import { compactVerify, decodeJwt, decodeProtectedHeader, importJWK } from "jose";
import { secondMs } from "../clock.ts";
import { Refusal } from "../errors.ts";
import { toJwk } from "../keys/jwks-document.ts";
import { keyFault, keyStateAt, type PublishedKey } from "../keys/published-key.ts";
import { createFleetStateReader } from "../postgres/fleet-state.ts";
import { createIssuedTokenStore } from "../postgres/issued-tokens.ts";
import { createPublishedKeyStore } from "../postgres/signing-keys.ts";
import { kidPattern } from "../protocol/jwk.ts";
import { judgeByRecord, type TokenStanding } from "../tokens/issued-token.ts";
import { createVerifyAccessToken } from "../tokens/verify-access-token.ts";
import type { Workspace } from "./workspace.ts";

export interface Inspection {
  readonly header: object;
  readonly claims: Readonly<Record<string, unknown>>;
  readonly key: string;
  readonly verdict: string;
}

export async function inspectToken(workspace: Workspace, token: string): Promise<Inspection> {
  const { pool, secrets, config } = workspace;
  const { header, claims } = decode(token);
  const { databaseMs } = await createFleetStateReader(pool)();
  const kid = String(header.kid);
  const key = kidPattern.test(kid) ? await createPublishedKeyStore(pool).find(kid) : undefined;
  const keyState =
    key === undefined
      ? "unknown"
      : (keyFault(secrets, config.signingAlg, key) ?? keyStateAt(key, databaseMs));
  const verdict = await judge(workspace, token, key, keyState, databaseMs);
  return { header, claims, key: keyState, verdict };
}

function decode(token: string) {
  try {
    return { header: decodeProtectedHeader(token), claims: decodeJwt(token) };
  } catch {
    throw new Refusal("invalid_request", { description: "this is not a signed JWT" });
  }
}

async function judge(
  { pool, config }: Workspace,
  token: string,
  key: PublishedKey | undefined,
  keyState: string,
  nowMs: number,
): Promise<string> {
  if (key === undefined) return "its key is not published";
  if (keyState !== "active" && keyState !== "retired") return `its key is ${keyState}`;
  const { alg } = key;
  try {
    await compactVerify(token, await importJWK(toJwk(key), key.alg), { algorithms: [alg] });
  } catch {
    return "its signature is wrong";
  }
  const { exp = 0, nbf = 0, iss, jti } = decodeJwt(token);
  if (exp * secondMs <= nowMs) return "it has expired";
  if (nbf * secondMs > nowMs) return "it is not valid yet";
  const verified = await createVerifyAccessToken({
    issuer: config.issuer ?? String(iss),
    alg,
    directory: { find: () => ({ status: "published", key }) },
    isCurrent: async () => true,
    clock: { nowMs: () => nowMs },
    clockToleranceMs: config.clockToleranceMs,
  })(token);
  if (verified === undefined) return "it is no access token of this issuer";
  const standing = judgeByRecord(verified, await createIssuedTokenStore(pool).read(String(jti)));
  return verdicts[standing];
}

const verdicts: Record<TokenStanding, string> = {
  active: "valid",
  inactive: "it is revoked, or its session has ended",
  forged: "it was never issued: its key is in other hands",
};
