import { expect, test } from "@jest/globals";
import { createDirectory } from "../../src/keys/directory.ts";
import { jwksText } from "../../src/keys/jwks-document.ts";
import type { PublishedKey } from "../../src/keys/published-key.ts";

function setUp(startMs = 0) {
  let nowMs = startMs;
  const directory = createDirectory({
    clock: { nowMs: () => nowMs },
    isAcceptable: (key) => key.instanceId !== "forger",
  });
  return {
    directory,
    setTime: (timeMs: number) => {
      nowMs = timeMs;
    },
    kids: () => directory.snapshot().keys.map((key) => key.kid),
  };
}

/** Active from 100 to 200, expired at 300. */
function row(kid: string, changes: Partial<PublishedKey> = {}): PublishedKey {
  return {
    kid,
    instanceId: "one",
    alg: "EdDSA",
    x: kid,
    publishedAtMs: 50,
    activatesAtMs: 100,
    retiresAtMs: 200,
    expiresAtMs: 300,
    retiredEarlyAtMs: null,
    revokedAtMs: null,
    seal: { secretId: "", seal: Buffer.alloc(0) },
    ...changes,
  };
}

test("is empty and not loaded before it has learnt anything", () => {
  const { directory, kids } = setUp();
  expect(directory.isLoaded()).toBe(false);
  expect(kids()).toEqual([]);
  directory.learn([]);
  expect(directory.isLoaded()).toBe(true);
});

test("serves keys sorted by kid, and the same text whatever order they came in", () => {
  const [one, other] = [setUp(), setUp()];
  one.directory.learn([row("b"), row("a")]);
  other.directory.learn([row("a")]);
  other.directory.learn([row("b"), row("a")]);
  expect(one.kids()).toEqual(["a", "b"]);
  expect(jwksText(one.directory.snapshot().keys)).toBe(jwksText(other.directory.snapshot().keys));
});

test("drops a key at its expiry without being told", () => {
  const { directory, setTime, kids } = setUp();
  directory.learn([row("a"), row("b", { expiresAtMs: 400 })]);
  setTime(299);
  expect(kids()).toEqual(["a", "b"]);
  setTime(300);
  expect(kids()).toEqual(["b"]);
  expect(directory.find("a").status).toBe("unknown");
});

test("gives the same snapshot until something changes", () => {
  const { directory, setTime } = setUp();
  directory.learn([row("a")]);
  const first = directory.snapshot();
  setTime(299);
  expect(directory.snapshot()).toBe(first);
  setTime(300);
  expect(directory.snapshot()).not.toBe(first);
});

test("keeps a key whose row has vanished", () => {
  const { directory, kids } = setUp();
  directory.learn([row("a")]);
  directory.learn([]);
  expect(kids()).toEqual(["a"]);
});

test("lets ends move earlier only", () => {
  const { directory, setTime, kids } = setUp();
  directory.learn([row("a")]);
  directory.learn([row("a", { retiredEarlyAtMs: 150 })]);
  directory.learn([row("a", { expiresAtMs: 9000, retiresAtMs: 8900 })]);
  setTime(249);
  expect(kids()).toEqual(["a"]);
  setTime(250);
  expect(kids()).toEqual([]);
});

test("serves no revoked key, knows it as revoked, and does not forget that", () => {
  const { directory, kids } = setUp();
  directory.learn([row("a")]);
  directory.learn([row("a", { revokedAtMs: 120 })]);
  expect(kids()).toEqual([]);
  expect(directory.find("a").status).toBe("revoked");
  directory.learn([row("a")]);
  expect(kids()).toEqual([]);
});

test("believes no row that is not acceptable, even beside a good one", () => {
  const { directory, kids } = setUp();
  directory.learn([row("a"), row("b", { instanceId: "forger" })]);
  expect(kids()).toEqual(["a"]);
  expect(directory.find("b").status).toBe("unknown");
});

test("a good key is not replaced by a row of the same kid", () => {
  const { directory } = setUp();
  directory.learn([row("a")]);
  directory.learn([row("a", { instanceId: "forger", x: "other" })]);
  const found = directory.find("a");
  expect(found.status === "published" && found.key.x).toBe("a");
});

test("keeps what it knows over a forward step of the clock, and forgets it after", () => {
  const { directory, setTime, kids } = setUp();
  directory.learn([row("a")]);
  setTime(250);
  directory.keepKnownKeysUntil(1100);
  setTime(1000);
  directory.learn([row("b", { expiresAtMs: 1050, retiresAtMs: 1040 })]);
  expect(kids()).toEqual(["a", "b"]);
  setTime(1099);
  expect(kids()).toEqual(["a"]);
  setTime(1100);
  expect(kids()).toEqual([]);
});
