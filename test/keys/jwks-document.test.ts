import { expect, test } from "@jest/globals";
import { jwksText } from "../../src/keys/jwks-document.ts";
import type { PublishedKey } from "../../src/keys/published-key.ts";

function key(kid: string): PublishedKey {
  const times = { publishedAtMs: 0, activatesAtMs: 0, retiresAtMs: 1000, expiresAtMs: 2500 };
  const seal = { secretId: "", seal: Buffer.alloc(0) };
  const published = { kid, x: `x of ${kid}`, alg: "EdDSA", instanceId: "one", ...times } as const;
  return { ...published, retiredEarlyAtMs: null, revokedAtMs: null, seal };
}

test("the same keys give the same bytes, in whatever order they were learned (I10)", () => {
  const keys = ["b", "A", "_", "a", "-", "0"].map(key);
  const text = jwksText(keys);
  expect(jwksText([...keys].reverse())).toBe(text);
  expect(JSON.parse(text).keys.map(({ kid }: { kid: string }) => kid)).toEqual([
    "-",
    "0",
    "A",
    "_",
    "a",
    "b",
  ]);
});

test("90 keys, the most that a fleet may have, are less than the 16 KB at which consumers' limits begin", () => {
  const keys = Array.from({ length: 90 }, (_, index) => {
    const kid = `${index}`.padStart(43, "k");
    return { ...key(kid), x: kid, alg: "Ed25519" as const, expiresAtMs: 1_800_000_000_000 };
  });
  expect(jwksText(keys).length).toBeLessThan(16_384);
});
