import { expect, test } from "@jest/globals";
import { createKeyRing } from "../../src/keys/key-ring.ts";
import type { PublishedKey } from "../../src/keys/published-key.ts";
import { generateSigningKey } from "../../src/keys/signing-key.ts";
import type { AccessTokenClaims } from "../../src/protocol/access-token.ts";

const second = 1000;

function setUp(propagationDelayMs = 0) {
  let nowMs = 0;
  const ring = createKeyRing({
    clock: { nowMs: () => nowMs },
    verifyGraceMs: 10 * second,
    propagationDelayMs,
  });
  /** Active from 100 s to 200 s, kept until 260 s; settled at `settledAtMs`. */
  const add = (settledAtMs: number, changes: Partial<PublishedKey> = {}) => {
    const signingKey = generateSigningKey("EdDSA");
    const times = { publishedAtMs: 0, activatesAtMs: 100, retiresAtMs: 200, expiresAtMs: 260 };
    const published = Object.fromEntries(Object.entries(times).map(([name, at]) => [name, at * second]));
    ring.add(
      signingKey,
      {
        ...(published as unknown as typeof times),
        kid: signingKey.kid,
        x: signingKey.x,
        alg: "EdDSA",
        instanceId: "one",
        retiredEarlyAtMs: null,
        revokedAtMs: null,
        seal: { secretId: "", seal: Buffer.alloc(0) },
        ...changes,
      },
      settledAtMs,
    );
    return signingKey.kid;
  };
  const setTime = (seconds: number) => {
    nowMs = seconds * second;
  };
  return { ring, add, setTime };
}

function claims(expSeconds: number): AccessTokenClaims {
  const times = { iat: expSeconds - 1, nbf: expSeconds - 1, exp: expSeconds };
  return { iss: "i", sub: "s", aud: "a", jti: "j", client_id: "c", scope: "", rid: "r", ...times };
}

test("a key is offered as unsettled until it has settled", () => {
  const { ring, add, setTime } = setUp();
  const kid = add(5 * second);
  expect(ring.offer()).toEqual({ settled: [], unsettled: [kid], isMature: false });
  setTime(5);
  expect(ring.offer()).toEqual({ settled: [kid], unsettled: [], isMature: false });
  setTime(102);
  expect(ring.offer()).toEqual({ settled: [kid], unsettled: [], isMature: true });
});

test("a key is mature, and may be lent, once it has been public for the propagation delay", () => {
  const { ring, add, setTime } = setUp(120 * second);
  const kid = add(0);
  setTime(117.999);
  expect([ring.canLend(kid), ring.canSign()]).toEqual([false, true]);
  // The statement, which has chosen it, knows the time better.
  setTime(118);
  expect(ring.canLend(kid)).toBe(true);
  setTime(121.999);
  expect(ring.offer().isMature).toBe(false);
  setTime(122);
  expect(ring.offer().isMature).toBe(true);
  const unsettled = add(123 * second);
  expect(ring.canLend(unsettled)).toBe(false);
  expect(ring.canLend("another's")).toBe(false);
});

test("a mature key that retires before the statement may come is not enough where the next is too new", () => {
  const { ring, add, setTime } = setUp(60 * second);
  add(0);
  const next = { activatesAtMs: 200 * second, retiresAtMs: 300 * second, expiresAtMs: 360 * second };
  add(0, { ...next, publishedAtMs: 190 * second });
  setTime(197.999);
  expect(ring.offer().isMature).toBe(true);
  setTime(198);
  expect(ring.offer().isMature).toBe(false);
  add(0, { ...next, publishedAtMs: 100 * second });
  expect(ring.offer().isMature).toBe(true);
});

test("it is not enough either where the next matures only a moment after it, nor where the clock may be ahead", () => {
  const { ring, add, setTime } = setUp(60 * second);
  add(0);
  const next = { activatesAtMs: 200 * second, retiresAtMs: 300 * second, expiresAtMs: 360 * second };
  add(0, { ...next, publishedAtMs: 140.1 * second });
  const isMatureAt = (seconds: number) => {
    setTime(seconds);
    return ring.offer().isMature;
  };
  expect([101.999, 102, 197.999].map(isMatureAt)).toEqual([false, true, true]);
  expect([198, 199.9, 200, 200.1, 202.099].map(isMatureAt)).toEqual(Array(5).fill(false));
  expect(isMatureAt(202.1)).toBe(true);
});

test("the next key is offered before it is active, but does not make the ring ready", () => {
  const { ring, add, setTime } = setUp();
  const kid = add(0);
  setTime(99);
  expect(ring.offer().settled).toEqual([kid]);
  expect(ring.canSign()).toBe(false);
  setTime(100);
  expect(ring.canSign()).toBe(true);
});

test("a revoked key is not offered, nor one that has retired, by however much the database's clock may be behind", () => {
  const { ring, add, setTime } = setUp();
  add(0);
  add(0, { revokedAtMs: 1 });
  add(0, { retiredEarlyAtMs: 150 * second });
  setTime(201);
  expect(ring.offer()).toMatchObject({ settled: [expect.anything()], isMature: false });
  setTime(202);
  expect(ring.offer().settled).toEqual([]);
});

test("a key signs no token that it would not outlive by the grace", () => {
  const { ring, add } = setUp();
  const kid = add(0);
  expect(ring.sign(kid, claims(250))).toBeDefined();
  expect(ring.sign(kid, claims(251))).toBeUndefined();
  expect(ring.sign("another", claims(250))).toBeUndefined();
});

test("an end that others set is learnt, and what was chosen before it is still signed for a while", () => {
  const { ring, add, setTime } = setUp();
  const kid = add(0);
  ring.refresh(
    (asked) => ring.keys().map((key) => ({ ...key, kid: asked, retiredEarlyAtMs: 150 * second }))[0],
  );
  setTime(154);
  expect(ring.dropDone()).toEqual([]);
  expect(ring.sign(kid, claims(200))).toBeDefined();
  setTime(155);
  expect(ring.dropDone()).toEqual([kid]);
  expect(ring.sign(kid, claims(200))).toBeUndefined();
});

test("dropping all leaves nothing to sign with", () => {
  const { ring, add } = setUp();
  const kid = add(0);
  ring.dropAll();
  expect(ring.offer()).toEqual({ settled: [], unsettled: [], isMature: false });
  expect(ring.sign(kid, claims(150))).toBeUndefined();
});
