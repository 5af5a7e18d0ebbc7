import { describe, expect, test } from "@jest/globals";
import { grantScopes, normalizeUsername } from "../../src/accounts/account.ts";

describe("a username", () => {
  test.each([
    ["Alice", "alice"],
    ["ＡＬＩＣＥ", "alice"],
    ["ﬁona", "fiona"],
    ["e\u0301va", "\u00e9va"],
    ["İ", "i\u0307"],
    ["a b", "a b"],
    ["ß", "ß"],
  ])("%p is written %p", (typed, normalized) => {
    expect(normalizeUsername(typed)).toBe(normalized);
    expect(normalizeUsername(normalized)).toBe(normalized);
  });

  test.each([
    "",
    " ",
    "a\u0000b",
    "a\nb",
    "a\u0085b",
    "a\u2028b",
    "\ud800",
    "x".repeat(129),
    "ﷺ".repeat(128),
    "\ud83d\ude00".repeat(129),
  ])("%p is none", (typed) => {
    expect(normalizeUsername(typed)).toBeUndefined();
  });

  test("has up to 128 characters, however they are encoded", () => {
    expect(normalizeUsername("\ud83d\ude00".repeat(128))).toBeDefined();
    expect(normalizeUsername("x".repeat(128))).toBeDefined();
  });
});

describe("the scope of a token", () => {
  const account = { scopes: ["keyfleet:admin", "orders:read", "orders:write"] };

  test("is all that the account has but administration, where none is asked for", () => {
    expect(grantScopes(account, undefined)).toEqual(["orders:read", "orders:write"]);
    expect(grantScopes(account, [])).toEqual(["orders:read", "orders:write"]);
  });

  test("is what is asked for, administration where it is named", () => {
    expect(grantScopes(account, ["orders:read", "keyfleet:admin"])).toEqual([
      "orders:read",
      "keyfleet:admin",
    ]);
  });

  test("is refused where more is asked for than the account has", () => {
    expect(grantScopes(account, ["orders:read", "other"])).toBeUndefined();
  });
});
