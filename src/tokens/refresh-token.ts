/**
 * The refresh token: opaque to everyone else, here session ‖ generation ‖ secret ‖ tag (RFC 6749 §1.5, RFC 9700 §4.14).
 * The tag, keyed by FLEET_SECRET, tells a token that was once issued from one that was made up.
 */

import { randomBytes } from "node:crypto";
import { authenticate, type FleetSecrets } from "../fleet-secret.ts";

export interface RefreshToken {
  /** UUID. */
  readonly sessionId: string;
  /** 0 for the session's first; one more with every rotation. */
  readonly generation: number;
  /** 32 bytes. */
  readonly secret: Buffer;
}

/** Lets a secret scanner know one when it sees it. */
const prefix = "kfr_";
const tagBytes = 16;

export function createRefreshToken(sessionId: string): RefreshToken {
  return { sessionId, generation: 0, secret: randomBytes(32) };
}

function body({ sessionId, generation, secret }: RefreshToken): Buffer {
  const head = Buffer.alloc(20);
  head.write(sessionId.replaceAll("-", ""), 0, "hex");
  head.writeUInt32BE(generation, 16);
  return Buffer.concat([head, secret]);
}

/** 95 characters. */
export function encodeRefreshToken(secrets: FleetSecrets, token: RefreshToken): string {
  const bytes = body(token);
  const tag = authenticate(secrets.current, "refresh token tag", bytes).subarray(0, tagBytes);
  return prefix + Buffer.concat([bytes, tag]).toString("base64url");
}

/** What the session's row keeps: keyed, so that the database cannot put in the hash of a token it made. */
export function hashRefreshToken(secrets: FleetSecrets, token: RefreshToken): Buffer {
  return authenticate(secrets.current, "refresh token hash", body(token));
}
