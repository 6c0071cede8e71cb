// SPDX-License-Identifier: Apache-2.0
/**
 * Who may be one sender: an address and the networks around it that one subscriber or one site gets whole. IPv4: the
 * address, its /24. IPv6: /64 (one link), /56 and /48 (what providers hand out: RFC 6177).
 */
import { isIPv6 } from "node:net";

/** A network, and how many narrowest senders it may count for. */
export interface AddressGroup {
  name: string;
  factor: number;
}

/** Narrowest first. What is not an address is one group of its own. */
export function addressGroups(address: string): readonly [AddressGroup, ...AddressGroup[]] {
  const ipv4 = /^(?:::ffff:)?((\d+\.\d+\.\d+)\.\d+)$/i.exec(address);
  if (ipv4 !== null) {
    return [
      { name: ipv4[1]!, factor: 1 },
      { name: `${ipv4[2]!}.0/24`, factor: 16 },
    ];
  }
  const plain = address.replace(/%.*$/, "");
  if (!isIPv6(plain)) return [{ name: address, factor: 1 }];
  const [a, b, c, d] = words(plain);
  return [
    { name: `${a}:${b}:${c}:${d}::/64`, factor: 1 },
    { name: `${a}:${b}:${c}:${shortened(d)}::/56`, factor: 4 },
    { name: `${a}:${b}:${c}::/48`, factor: 16 },
  ];
}

/** The first four 16-bit words, each in the shortest hex. */
function words(address: string): [string, string, string, string] {
  const [head = "", tail] = address.toLowerCase().split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  // A dotted quad at the end stands for two words; it is never among the first four unless zeros are.
  const length = left.length + right.length + (address.includes(".") ? 1 : 0);
  const zeros = tail === undefined ? [] : Array<string>(8 - length).fill("0");
  const all = [...left, ...zeros, ...right].slice(0, 4);
  return all.map((word) => word.replace(/^0+(?=.)/, "")) as [string, string, string, string];
}

/** The word with its last eight bits cleared. */
const shortened = (word: string) => (Number.parseInt(word, 16) & 0xff00).toString(16);
