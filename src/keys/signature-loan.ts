/**
 * A borrowed signature: an instance without a mature key has another's signed with. The record of the issued token is
 * the request; the answer is the signature alone, 64 bytes that only the fleet can read and that fit one request.
 */

import { decrypt, encrypt } from "../encryption.ts";
import type { FleetSecrets } from "../fleet-secret.ts";

/** Which signature is borrowed, and by whom. */
export interface SignatureLoan {
  /** Of the token that is recorded as issued. */
  readonly jti: string;
  /** Of the lender's key. */
  readonly kid: string;
  /** The instance that records the token and will hand it out. */
  readonly borrowerId: string;
}

const signatureBytes = 64;

function belongingTo({ jti, kid, borrowerId }: SignatureLoan) {
  return { use: "signature loan", associatedData: `loan ${jti} ${kid} ${borrowerId}` } as const;
}

/** `signature`: base64url, as a compact JWS ends with it. */
export function sealSignature(secrets: FleetSecrets, loan: SignatureLoan, signature: string): string {
  return encrypt(secrets, belongingTo(loan), Buffer.from(signature, "base64url"));
}

/** Undefined where it is no answer to this very request. Not checked: whether the signature is right. */
export function openSignature(
  secrets: FleetSecrets,
  loan: SignatureLoan,
  sealed: string,
): Buffer | undefined {
  const signature = decrypt(secrets, belongingTo(loan), sealed);
  return signature?.length === signatureBytes ? signature : undefined;
}

/** What goes over an instance's channel: a request to lend, or the answer to one. */
export type LoanMessage =
  | { readonly type: "request"; readonly jti: string }
  | { readonly type: "answer"; readonly jti: string; readonly sealed: string };

/** The way to other instances' channels. A message may get lost, and nobody says so. */
export interface LoanPost {
  /** `to`: the instance. */
  send(messages: readonly { readonly to: string; readonly message: LoanMessage }[]): Promise<void>;
}

const messagePattern = /^(?:request ([\w-]{22})|answer ([\w-]{22}) ([\w.-]{1,200}))$/;

export function encodeLoanMessage(message: LoanMessage): string {
  return message.type === "request" ? `request ${message.jti}` : `answer ${message.jti} ${message.sealed}`;
}

/** Undefined where the text is none: anyone who can reach the database can write to a channel. */
export function decodeLoanMessage(text: string): LoanMessage | undefined {
  const [, requested, answered, sealed] = messagePattern.exec(text) ?? [];
  if (requested !== undefined) return { type: "request", jti: requested };
  if (answered !== undefined && sealed !== undefined) return { type: "answer", jti: answered, sealed };
  return undefined;
}
