import { randomBytes } from "node:crypto";
import { describe, expect, test } from "@jest/globals";
import { createFleetSecrets } from "../../src/fleet-secret.ts";
import {
  expiryMs,
  isMature,
  type KeyPublication,
  keyFault,
  keyStateAt,
  type PublishedKey,
  retirementMs,
  sealPublication,
} from "../../src/keys/published-key.ts";
import { generateSigningKey, thumbprint } from "../../src/keys/signing-key.ts";
import { isLowOrderPoint } from "../../src/protocol/jwk.ts";

const secrets = createFleetSecrets(randomBytes(32));

function publish(changes: Partial<KeyPublication> = {}): PublishedKey {
  const { kid, x } = generateSigningKey("EdDSA");
  const publication: KeyPublication = {
    kid,
    x,
    alg: "EdDSA",
    instanceId: "9a3c6b0e-0000-4000-8000-000000000001",
    publishedAtMs: 1000,
    activatesAtMs: 2000,
    retiresAtMs: 3000,
    expiresAtMs: 3500,
    ...changes,
  };
  const seal = sealPublication(secrets, publication);
  return { ...publication, retiredEarlyAtMs: null, revokedAtMs: null, seal };
}

describe("the state of a key", () => {
  test.each([
    [1000, "published"],
    [1999, "published"],
    [2000, "active"],
    [2999, "active"],
    [3000, "retired"],
    [3499, "retired"],
    [3500, "expired"],
  ])("at %p is %p", (nowMs, state) => {
    expect(keyStateAt(publish(), nowMs)).toBe(state);
  });

  test("a key retired early stays for as long after it as it was to stay after its end", () => {
    const key = { ...publish(), retiredEarlyAtMs: 2400 };
    expect(retirementMs(key)).toBe(2400);
    expect(expiryMs(key)).toBe(2900);
    expect(keyStateAt(key, 2399)).toBe("active");
    expect(keyStateAt(key, 2899)).toBe("retired");
    expect(keyStateAt(key, 2900)).toBe("expired");
  });

  test("a key withdrawn before its activation is gone at once", () => {
    const key = { ...publish(), retiredEarlyAtMs: 1500 };
    expect(keyStateAt(key, 1499)).toBe("published");
    expect(keyStateAt(key, 1500)).toBe("expired");
  });

  test("an end can not be moved later", () => {
    expect(expiryMs({ ...publish(), retiredEarlyAtMs: 9000 })).toBe(3500);
  });

  test("a revoked key is revoked at any time", () => {
    expect(keyStateAt({ ...publish(), revokedAtMs: 2500 }, 2600)).toBe("revoked");
  });

  test("a key is mature once it has been public for the propagation delay", () => {
    expect(isMature(publish(), 700, 1699)).toBe(false);
    expect(isMature(publish(), 700, 1700)).toBe(true);
  });
});

describe("a row is served only where an instance made it", () => {
  test("as it was published", () => {
    expect(keyFault(secrets, "EdDSA", publish())).toBeUndefined();
  });

  test.each([
    ["another end", { expiresAtMs: 9999 }, "not_sealed"],
    ["an earlier activation", { activatesAtMs: 1500 }, "not_sealed"],
    ["another owner", { instanceId: "someone" }, "not_sealed"],
    ["another key under its kid", { x: generateSigningKey("EdDSA").x }, "not_a_thumbprint"],
    ["another alg", { alg: "Ed25519" as const }, "wrong_alg"],
  ])("not with %s", (_, changes, fault) => {
    expect(keyFault(secrets, "EdDSA", { ...publish(), ...changes })).toBe(fault);
  });

  test("not where its seal is of somebody who has no accepted secret", () => {
    expect(keyFault(createFleetSecrets(randomBytes(32)), "EdDSA", publish())).toBe("not_sealed");
  });

  test.each(["A".repeat(43), `${"A".repeat(42)}B`, "short", "=".repeat(43)])("not with the key %p", (x) => {
    expect(keyFault(secrets, "EdDSA", publish({ x, kid: thumbprint(x) }))).toMatch(/low_order|malformed/);
  });
});

describe("points of low order", () => {
  const encodings = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  ];

  test.each(encodings)("%s is one", (hex) => {
    expect(isLowOrderPoint(Buffer.from(hex, "hex"))).toBe(true);
  });

  test("a generated key is none", () => {
    expect(isLowOrderPoint(Buffer.from(generateSigningKey("EdDSA").x, "base64url"))).toBe(false);
  });
});
