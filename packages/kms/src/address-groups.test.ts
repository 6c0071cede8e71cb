// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { addressGroups } from "./address-groups.ts";

const names = (address: string) => addressGroups(address).map(({ name }) => name);

for (const [address, groups] of [
  ["192.0.2.1", ["192.0.2.1", "192.0.2.0/24"]],
  ["::ffff:192.0.2.1", ["192.0.2.1", "192.0.2.0/24"]],
  ["2001:db8:1:2f03:3:4:5:6", ["2001:db8:1:2f03::/64", "2001:db8:1:2f00::/56", "2001:db8:1::/48"]],
  ["2001:DB8::1", ["2001:db8:0:0::/64", "2001:db8:0:0::/56", "2001:db8:0::/48"]],
  ["2001:0db8:0001:00ff::", ["2001:db8:1:ff::/64", "2001:db8:1:0::/56", "2001:db8:1::/48"]],
  ["fe80::1%eth0", ["fe80:0:0:0::/64", "fe80:0:0:0::/56", "fe80:0:0::/48"]],
  ["64:ff9b::192.0.2.1", ["64:ff9b:0:0::/64", "64:ff9b:0:0::/56", "64:ff9b:0::/48"]],
  ["::", ["0:0:0:0::/64", "0:0:0:0::/56", "0:0:0::/48"]],
  ["", [""]],
] as const) {
  test(`${address || "no address"} is in ${groups.join(", ")}`, () => deepEqual(names(address), groups));
}

test("two addresses share exactly the prefixes that their bits share", () => {
  const bytes = fc.uint8Array({ minLength: 16, maxLength: 16 });
  const text = (address: Uint8Array) => (address.toHex().match(/.{4}/g) ?? []).join(":");
  fc.assert(
    fc.property(bytes, fc.nat(127), (address, bit) => {
      // A word other than zero in front, so that this is never an address of IPv4.
      address[0] = 0x20;
      const other = Uint8Array.from(address);
      other[bit >> 3]! ^= 0x80 >> (bit & 7);
      if (other[0] === 0) return;
      const [a, b] = [names(text(address)), names(text(other))];
      for (const [i, length] of [64, 56, 48].entries()) equal(a[i] === b[i], bit >= length, `/${length}`);
    }),
  );
});
