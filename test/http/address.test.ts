import { expect, test } from "@jest/globals";
import { addressBlock, canonicalAddress, createAddressFilter, isCidr } from "../../src/http/address.ts";

test.each([
  ["203.0.113.9", "203.0.113.9"],
  ["::ffff:203.0.113.9", "203.0.113.9"],
  ["::FFFF:cb00:7109", "203.0.113.9"],
  ["0:0:0:0:0:ffff:203.0.113.9", "203.0.113.9"],
  ["203.0.113.9:4711", "203.0.113.9"],
  ["[2001:db8::1]:4711", "2001:db8:0:0::/64"],
  ["2001:db8::1", "2001:db8:0:0::/64"],
  ["2001:DB8:0:0:1:2:3:4", "2001:db8:0:0::/64"],
  ["2001:db8:1:2:3::", "2001:db8:1:2::/64"],
  ["::1", "0:0:0:0::/64"],
  ["fe80::1%eth0", "fe80:0:0:0::/64"],
])("%s is counted as %s", (address, block) => {
  expect(addressBlock(address)).toBe(block);
});

test("two addresses of one /64 are counted as one, of two as two", () => {
  expect(addressBlock("2001:db8:0:1::5")).toBe(addressBlock("2001:db8::1:ffff:0:0:1"));
  expect(addressBlock("2001:db8:0:1::5")).not.toBe(addressBlock("2001:db8:0:2::5"));
});

test("an IPv4-mapped address is the IPv4 address, and an IPv6 one is written one way", () => {
  expect(canonicalAddress("::ffff:10.0.0.1")).toBe("10.0.0.1");
  expect(canonicalAddress("[0:0:0:0:0:FFFF:a00:1]:4711")).toBe("10.0.0.1");
  expect(canonicalAddress("2001:DB8:0:0:1:0:0:1")).toBe("2001:db8::1:0:0:1");
});

test.each(["10.0.0.0/8", "10.1.2.3", "2001:db8::/32", "::1", "0.0.0.0/0"])("%s is a block", (text) => {
  expect(isCidr(text)).toBe(true);
});

test.each(["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/8/8", "10.0.0.0/-1", "host"])(
  "%p is none",
  (text) => {
    expect(isCidr(text)).toBe(false);
  },
);

test("a filter lets its blocks in, mapped or not, and nobody else", () => {
  const isIn = createAddressFilter(["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]);
  expect(
    ["10.255.0.1", "::ffff:10.1.1.1", "::ffff:a01:101", "2001:db8:ffff::1", "192.0.2.7"].every(isIn),
  ).toBe(true);
  expect(["11.0.0.1", "2001:db9::1", "192.0.2.8", "", "nonsense"].some(isIn)).toBe(false);
});

test("no blocks let everybody in", () => {
  expect(createAddressFilter([])("198.51.100.1")).toBe(true);
});
