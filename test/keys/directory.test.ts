import { describe, expect, test } from "@jest/globals";
import { createFleetSecrets } from "../../src/fleet-secret.ts";
import { createDirectory } from "../../src/keys/directory.ts";
import { createDirectoryFollower } from "../../src/keys/follow-directory.ts";
import { jwksText } from "../../src/keys/jwks-document.ts";
import { type PublishedKey, sealPublication } from "../../src/keys/published-key.ts";
import { generateSigningKey } from "../../src/keys/signing-key.ts";

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

describe("following the table", () => {
  const secrets = createFleetSecrets(Buffer.alloc(32, 1));

  function sealedRow(): PublishedKey {
    const { kid, x } = generateSigningKey("EdDSA");
    const key = row(kid, { x, retiresAtMs: 9000, expiresAtMs: 9100 });
    return { ...key, seal: sealPublication(secrets, key) };
  }

  /** A table in memory; `restored` is what was put back, each time. */
  function setUpTable() {
    const table = { nowMs: 60, rows: [sealedRow()], isAway: false, restored: [] as string[][] };
    const { directory, follow } = createDirectoryFollower({
      clock: { nowMs: () => table.nowMs },
      secrets,
      alg: "EdDSA",
      store: {
        list: async () => table.rows,
        async restore(keys) {
          if (table.isAway) throw new Error("away");
          table.restored.push(keys.map(({ kid }) => kid));
          return keys.length;
        },
      },
      onRejected: () => undefined,
      onRestored: () => undefined,
    });
    return { table, follow, serves: (kid: string) => directory.find(kid).status === "published" };
  }

  test("reads it at every other version, and at the same one in another epoch", async () => {
    const { table, follow, serves } = setUpTable();
    await follow({ epoch: "a", directoryVersion: 12 });
    const kids: string[] = [];
    const publish = () => {
      table.rows = [sealedRow()];
      kids.push(table.rows[0]?.kid ?? "");
    };
    publish();
    await follow({ epoch: "a", directoryVersion: 12 });
    expect(kids.map(serves)).toEqual([false]);
    await follow({ epoch: "a", directoryVersion: 13 });
    publish();
    await follow({ epoch: "b", directoryVersion: 13 });
    expect(kids.map(serves)).toEqual([true, true]);
    expect(table.restored).toHaveLength(1);
  });

  test("puts back what is lost at the same version still, where that failed before", async () => {
    const { table, follow } = setUpTable();
    await follow({ epoch: "a", directoryVersion: 1 });
    const kids = table.rows.map(({ kid }) => kid);
    Object.assign(table, { rows: [], isAway: true });
    const again = () => follow({ epoch: "a", directoryVersion: 2 });
    await expect(again()).rejects.toThrow("away");
    table.isAway = false;
    // Not at once, for whoever deletes rows must not keep the fleet busy.
    await again();
    expect(table.restored).toEqual([]);
    table.nowMs = 60 + 5000;
    await again();
    expect(table.restored).toEqual([kids]);
    await again();
    expect(table.restored).toEqual([kids]);
  });
});
