/** Why a token is refused: a closed table of codes, each with its message; none names a value. */

export const verificationMessages = {
  malformed_token: "Malformed token",
  invalid_algorithm: "Invalid algorithm",
  invalid_type: "Invalid token type",
  unknown_key: "Unknown signing key",
  revoked_key: "Signing key revoked",
  signature_failed: "Signature verification failed",
  token_expired: "Token expired",
  token_not_active: "Token not yet valid",
  invalid_issuer: "Invalid issuer",
  invalid_audience: "Invalid audience",
  missing_claim: "Missing claim",
  token_revoked: "Token revoked",
  not_issued: "Token was never issued",
  revocation_stale: "Revocation state too old",
  keys_unavailable: "Signing keys unavailable",
} as const;

export type VerificationErrorCode = keyof typeof verificationMessages;

/** Thrown by `verify`, and the only thing it throws. */
export class VerificationError extends Error {
  readonly code: VerificationErrorCode;

  /** `claim`: the name of the one that is missing, where that is the reason. */
  constructor(
    code: VerificationErrorCode,
    options: { readonly claim?: string; readonly cause?: unknown } = {},
  ) {
    const { claim, cause } = options;
    super(claim === undefined ? verificationMessages[code] : `${verificationMessages[code]}: ${claim}`, {
      cause,
    });
    this.name = "VerificationError";
    this.code = code;
  }

  /** The token could not be judged: its holder may be right, and may try again (503, not 401). */
  get isUnavailable(): boolean {
    return this.code === "revocation_stale" || this.code === "keys_unavailable";
  }
}
