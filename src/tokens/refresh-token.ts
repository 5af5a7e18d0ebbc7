/**
 * The refresh token: opaque to everyone else, here session ‖ generation ‖ secret ‖ tag (RFC 6749 §1.5, RFC 9700 §4.14).
 * The tag, keyed by FLEET_SECRET, tells a token that was once issued from one that was made up.
 */

import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { authenticate, type FleetSecret, type FleetSecrets } from "../fleet-secret.ts";

export interface RefreshToken {
  /** UUID. */
  readonly sessionId: string;
  /** 0 for the session's first; one more with every rotation. */
  readonly generation: number;
  /** 32 bytes. */
  readonly secret: Buffer;
}

export interface PresentedRefreshToken extends RefreshToken {
  /** Whether its tag is of an accepted secret. */
  readonly isGenuine: boolean;
}

/** Lets a secret scanner know one when it sees it. */
const prefix = "kfr_";
const pattern = /^kfr_[A-Za-z0-9_-]{91}$/;
const sessionBytes = 16;
const bodyBytes = sessionBytes + 4 + 32;
const tagBytes = 16;
const saltBytes = 16;
/** The column is a signed integer, and the one after it must be one too. */
const maxGeneration = 2 ** 31 - 2;

export function createRefreshToken(sessionId: string): RefreshToken {
  return { sessionId, generation: 0, secret: randomBytes(32) };
}

/** Made for each rotation, and kept in the session's row. */
export function createRotationSalt(): Buffer {
  return randomBytes(saltBytes);
}

/** The same for a token presented twice, and made by whoever has token, salt and FLEET_SECRET: by nobody with two. */
export function successorOf(token: RefreshToken, salt: Buffer, secret: FleetSecret): RefreshToken {
  const { sessionId, generation } = token;
  const derived = authenticate(secret, "refresh token successor", Buffer.concat([token.secret, salt]));
  return { sessionId, generation: generation + 1, secret: derived };
}

function body({ sessionId, generation, secret }: RefreshToken): Buffer {
  const head = Buffer.alloc(sessionBytes + 4);
  head.write(sessionId.replaceAll("-", ""), 0, "hex");
  head.writeUInt32BE(generation, sessionBytes);
  return Buffer.concat([head, secret]);
}

function tag(secret: FleetSecret, bytes: Buffer): Buffer {
  return authenticate(secret, "refresh token tag", bytes).subarray(0, tagBytes);
}

/** 95 characters. */
export function encodeRefreshToken(secrets: FleetSecrets, token: RefreshToken): string {
  const bytes = body(token);
  return prefix + Buffer.concat([bytes, tag(secrets.current, bytes)]).toString("base64url");
}

/** Undefined where the text is no refresh token at all. */
export function decodeRefreshToken(secrets: FleetSecrets, text: string): PresentedRefreshToken | undefined {
  if (!pattern.test(text)) return undefined;
  const bytes = Buffer.from(text.slice(prefix.length), "base64url");
  const generation = bytes.readUInt32BE(sessionBytes);
  if (generation > maxGeneration) return undefined;
  const given = bytes.subarray(bodyBytes);
  const signed = bytes.subarray(0, bodyBytes);
  const hex = bytes.toString("hex", 0, sessionBytes);
  return {
    sessionId: hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-"),
    generation,
    secret: Buffer.from(signed.subarray(sessionBytes + 4)),
    isGenuine: secrets.all.some((secret) => timingSafeEqual(tag(secret, signed), given)),
  };
}

/** What the session's row keeps, sealed: of 256 random bits, so nothing that a slow hash would make harder to guess. */
export function hashRefreshToken(token: RefreshToken): Buffer {
  return createHash("sha256").update(body(token)).digest();
}
