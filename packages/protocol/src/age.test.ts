// SPDX-License-Identifier: Apache-2.0
/** `@caisson/image`'s tests of log keys compare with the library of age's author. */
import { equal, throws } from "node:assert/strict";
import { test } from "node:test";
import { decryptAge, encryptAge } from "./age.ts";
import { generateSealingKey } from "./hpke.ts";

test("a file for somebody else is not opened, and is not a fault", () => {
  equal(
    decryptAge(generateSealingKey(), encryptAge([generateSealingKey().publicKey], Buffer.from("x"))),
    undefined,
  );
});

test("a file with any bit changed, or cut anywhere, is not opened", () => {
  const own = generateSealingKey();
  const file = Buffer.from(encryptAge([own.publicKey], Buffer.from("a line of a log")));
  const opens = (bytes: Uint8Array): boolean => {
    try {
      return decryptAge(own, bytes) !== undefined;
    } catch {
      return false;
    }
  };
  equal(opens(file), true);
  for (let bit = 0; bit < file.length * 8; bit++) {
    const altered = Buffer.from(file);
    altered[bit >> 3]! ^= 1 << (bit & 7);
    equal(opens(altered), false, `bit ${bit}`);
  }
  for (let size = 0; size < file.length; size++) equal(opens(file.subarray(0, size)), false, `${size} bytes`);
});

test("a key of another size is refused", () => {
  throws(() => encryptAge([new Uint8Array(31)], new Uint8Array()), RangeError);
});
