/** Every form in which a copy of an Ed25519 seed could lie around, as bytes to look for. */

import { createHash } from "node:crypto";

export type FormName =
  | "raw"
  /** SHA-512 of the seed: the clamped scalar and the prefix of the nonce (RFC 8032 §5.1.5). */
  | "digest"
  /** SHA-512's message schedule, as words or with the round constants added: either gives the seed back. */
  | "schedule"
  | "hex"
  | "HEX"
  | "spaced hex"
  | "decimal"
  | "base64"
  | "base64url";

/** A part of a copy: copies are cut by pages and overwritten in part, so that whole ones are not looked for. */
export interface Needle {
  readonly form: FormName;
  readonly bytes: Buffer;
}

const wordBytes = 8;
const textPartCharacters = 16;

export function needlesOf(seed: Buffer): readonly Needle[] {
  const digest = createHash("sha512").update(seed).digest();
  const scalar = Buffer.from(digest.subarray(0, 32));
  scalar[0] = (scalar[0] as number) & 0xf8;
  scalar[31] = ((scalar[31] as number) & 0x3f) | 0x40;
  const binary = [
    ...wordsOf(seed).map((bytes): Needle => ({ form: "raw", bytes })),
    ...[...wordsOf(digest), ...wordsOf(scalar)].flatMap((bytes): Needle[] => [
      { form: "digest", bytes },
      { form: "digest", bytes: Buffer.from(bytes).swap64() },
    ]),
    ...scheduleWords(seed).map((bytes): Needle => ({ form: "schedule", bytes })),
  ];
  return [...binary, ...textNeedles(seed)];
}

function wordsOf(bytes: Buffer): Buffer[] {
  const starts = Array.from({ length: bytes.length / wordBytes }, (_, index) => index * wordBytes);
  return starts.map((start) => bytes.subarray(start, start + wordBytes));
}

function textNeedles(seed: Buffer): Needle[] {
  const words = wordsOf(seed);
  const texts: [FormName, string][] = words.flatMap((word): [FormName, string][] => {
    const hex = word.toString("hex");
    const upper = hex.toUpperCase();
    return [
      ["hex", hex],
      // One form, where it has digits alone.
      ...(upper === hex ? [] : ([["HEX", upper]] as [FormName, string][])),
      ["spaced hex", hex.replaceAll(/..(?!$)/g, "$& ")],
      ["decimal", word.join(",")],
    ];
  });
  for (const alphabet of ["base64", "base64url"] as const) {
    for (const bytesBefore of [0, 1, 2]) texts.push(...base64Parts(seed, alphabet, bytesBefore));
  }
  // V8 keeps a string in one byte a character or in two.
  return texts.flatMap(([form, text]): Needle[] => [
    { form, bytes: Buffer.from(text, "latin1") },
    { form, bytes: Buffer.from(text, "utf16le") },
  ]);
}

/** What the seed alone decides of the text of a longer thing that it stands in, such as its PKCS #8. */
function base64Parts(
  seed: Buffer,
  alphabet: "base64" | "base64url",
  bytesBefore: number,
): [FormName, string][] {
  const text = Buffer.concat([Buffer.alloc(bytesBefore), seed]).toString(alphabet);
  const start = Math.ceil((bytesBefore * 8) / 6);
  return [start, start + textPartCharacters].map((from) => [
    alphabet,
    text.slice(from, from + textPartCharacters),
  ]);
}

const mask64 = (1n << 64n) - 1n;
const rotate = (word: bigint, bits: bigint) => ((word >> bits) | (word << (64n - bits))) & mask64;

/** FIPS 180-4 §6.4.2: the words that depend on the seed, as a little-endian machine stores them. */
function scheduleWords(seed: Buffer): Buffer[] {
  const block = Buffer.alloc(128);
  seed.copy(block);
  block[32] = 0x80;
  block.writeBigUInt64BE(256n, 120);
  const words = wordsOf(block).map((word) => word.readBigUInt64BE());
  const at = (index: number) => words[index] as bigint;
  for (let t = 16; t < 80; t += 1) {
    const s0 = rotate(at(t - 15), 1n) ^ rotate(at(t - 15), 8n) ^ (at(t - 15) >> 7n);
    const s1 = rotate(at(t - 2), 19n) ^ rotate(at(t - 2), 61n) ^ (at(t - 2) >> 6n);
    words.push((s1 + at(t - 7) + s0 + at(t - 16)) & mask64);
  }
  const constants = roundConstants();
  return words.flatMap((word, t) =>
    t >= 4 && t < 16 ? [] : [word, (word + (constants[t] as bigint)) & mask64].map(littleEndian),
  );
}

function littleEndian(word: bigint): Buffer {
  const bytes = Buffer.alloc(wordBytes);
  bytes.writeBigUInt64LE(word);
  return bytes;
}

/** FIPS 180-4 §4.2.3: the fractions of the cube roots of the first eighty primes, 64 bits each. */
function roundConstants(): bigint[] {
  const constants: bigint[] = [];
  for (let n = 2; constants.length < 80; n += 1) {
    if (!isPrime(n)) continue;
    constants.push(cubeRoot(BigInt(n) << 192n) & mask64);
  }
  return constants;
}

function isPrime(n: number): boolean {
  for (let divisor = 2; divisor * divisor <= n; divisor += 1) if (n % divisor === 0) return false;
  return true;
}

/** The largest whole number whose cube is at most n, bit by bit; n < 2^210. */
function cubeRoot(n: bigint): bigint {
  let root = 0n;
  for (let bit = 1n << 70n; bit > 0n; bit >>= 1n) if ((root | bit) ** 3n <= n) root |= bit;
  return root;
}
