/** Finds the private half of a public key in another process's memory, as whoever can read all of it would. */

import { createPrivateKey, createPublicKey } from "node:crypto";
import { type Mapping, type Memory, openMemory, ownMappings } from "./memory-scan.ts";

export interface FoundSeed {
  /** The public half: the JWK member `x`. */
  readonly x: string;
  readonly seed: Buffer;
  /** Where it lies. */
  readonly mapping: Mapping;
}

const keyBytes = 32;
const pointerBytes = 8;
/** OpenSSL keeps the public half in a structure, and soon after it a pointer to the private one. */
const structureBytes = 128;

/** Runs nothing in the process, and so leaves nothing there. A key whose private half is not found is left out. */
export function findSeeds(processId: number, publicKeys: readonly string[]): readonly FoundSeed[] {
  const memory = openMemory(processId);
  try {
    const mappings = ownMappings(processId);
    return findPlaces(memory, mappings, publicKeys).flatMap(({ x, addresses }) => {
      const pointers = new Set(addresses.flatMap((address) => pointersAfter(memory, address)));
      for (const address of pointers) {
        const mapping = mappings.find((each) => each.startAddress <= address && address < each.endAddress);
        if (mapping === undefined) continue;
        const seed = Buffer.from(memory.read(address, keyBytes) ?? []);
        if (publicHalfOf(seed) === x) return [{ x, seed, mapping }];
      }
      return [];
    });
  } finally {
    memory.close();
  }
}

function findPlaces(memory: Memory, mappings: readonly Mapping[], publicKeys: readonly string[]) {
  const places = publicKeys.map((x) => ({
    x,
    bytes: Buffer.from(x, "base64url"),
    addresses: [] as number[],
  }));
  for (const mapping of mappings) {
    for (const piece of memory.pieces(mapping, keyBytes - 1)) {
      for (const { bytes, addresses } of places) {
        for (let at = piece.bytes.indexOf(bytes); at !== -1; at = piece.bytes.indexOf(bytes, at + 1)) {
          addresses.push(piece.address + at);
        }
      }
    }
  }
  return places;
}

function pointersAfter(memory: Memory, address: number): number[] {
  const start = Math.ceil(address / pointerBytes) * pointerBytes;
  const bytes = memory.read(start, structureBytes) ?? Buffer.alloc(0);
  const count = Math.floor(bytes.length / pointerBytes);
  return Array.from({ length: count }, (_, index) => Number(bytes.readBigUInt64LE(index * pointerBytes)));
}

const pkcs8Prefix = Buffer.from("302e020100300506032b657004220420", "hex");

function publicHalfOf(seed: Buffer): string | undefined {
  if (seed.length !== keyBytes) return undefined;
  const key = createPrivateKey({ key: Buffer.concat([pkcs8Prefix, seed]), format: "der", type: "pkcs8" });
  return createPublicKey(key).export({ format: "jwk" }).x;
}
