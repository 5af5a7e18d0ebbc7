/** Network addresses: which may ask for tokens, and how they are counted. */

import { BlockList, isIP, isIPv6, SocketAddress } from "node:net";

/**
 * The IPv4 address behind an IPv4-mapped IPv6 one (RFC 4291 §2.5.5.2), however that is written; other addresses as
 * RFC 5952 writes them, without their zone; and all without the port that some proxies add.
 */
export function canonicalAddress(address: string): string {
  const withoutPort =
    /^\[(.+)\](?::\d+)?$/.exec(address)?.[1] ?? address.replace(/^(\d+(?:\.\d+){3}):\d+$/, "$1");
  const withoutZone = withoutPort.split("%")[0] ?? withoutPort;
  if (!isIPv6(withoutZone)) return withoutZone;
  const { address: written } = new SocketAddress({ address: withoutZone, family: "ipv6" });
  return /^::ffff:(\d+(?:\.\d+){3})$/.exec(written)?.[1] ?? written;
}

/** What one party is counted by: an IPv4 address, or the /64 of an IPv6 one. */
export function addressBlock(address: string): string {
  const canonical = canonicalAddress(address);
  if (!isIPv6(canonical)) return canonical;
  const [head = "", tail] = canonical.split("::");
  const headGroups = head === "" ? [] : head.split(":");
  const tailGroups = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? [] : Array<string>(8 - headGroups.length - tailGroups.length).fill("0");
  const groups = [...headGroups, ...zeros, ...tailGroups].slice(0, 4);
  return `${groups.map((group) => Number.parseInt(group, 16).toString(16)).join(":")}::/64`;
}

/** Whether the text is an address or a CIDR block. */
export function isCidr(text: string): boolean {
  const [address = "", prefix, ...rest] = text.split("/");
  const version = isIP(address);
  if (version === 0 || rest.length > 0) return false;
  if (prefix === undefined) return true;
  return /^\d{1,3}$/.test(prefix) && Number(prefix) <= (version === 4 ? 32 : 128);
}

/** A test for membership of any of the blocks; with no blocks, everyone is in. Each must satisfy `isCidr`. */
export function createAddressFilter(cidrs: readonly string[]): (address: string) => boolean {
  if (cidrs.length === 0) return () => true;
  const blocks = new BlockList();
  for (const cidr of cidrs) {
    const [address = "", prefix] = cidr.split("/");
    const family = isIPv6(address) ? "ipv6" : "ipv4";
    blocks.addSubnet(address, prefix === undefined ? (family === "ipv6" ? 128 : 32) : Number(prefix), family);
  }
  return (address) => {
    const canonical = canonicalAddress(address);
    const version = isIP(canonical);
    return version !== 0 && blocks.check(canonical, version === 6 ? "ipv6" : "ipv4");
  };
}
