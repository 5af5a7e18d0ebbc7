/** `keyfleet/verifier`: for services that take Keyfleet's access tokens. Depends on jose alone. */

export type { VerifiedClaims } from "./check-claims.ts";
export { VerificationError, type VerificationErrorCode, verificationMessages } from "./errors.ts";
export type {
  IntrospectionOptions,
  RevocationOptions,
  VerifierAlgorithm,
  VerifierEvent,
  VerifierLogger,
  VerifierOptions,
} from "./options.ts";
export { type Auth, authorize, type Denial, type RequireAuthOptions, requireAuth } from "./require-auth.ts";
export { createVerifier, type Verifier } from "./verifier.ts";
