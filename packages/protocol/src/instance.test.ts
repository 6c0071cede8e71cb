// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodeInstance, encodeInstance, type Instance, InstanceError } from "./instance.ts";

const instance: Instance = {
  version: "caisson/instance/v1",
  seed: "5a".repeat(20),
  kms: { url: "http://10.0.2.2:8443", identity: "01".repeat(32) },
};
const device = encodeInstance(instance);

/** Decodes; anything but an InstanceError is a fault of the decoder. */
function outcome(bytes: Uint8Array): Instance | string {
  try {
    return decodeInstance(bytes);
  } catch (error) {
    if (error instanceof InstanceError) return error.code;
    throw error;
  }
}

test("what was encoded is decoded, out of whole sectors", () => {
  equal(device.length % 512, 0);
  deepEqual(decodeInstance(device), instance);
});

test("no truncation is accepted, and none escapes as another error", () => {
  const used = 12 + JSON.stringify(instance).length;
  for (let size = 0; size < used; size++)
    equal(typeof outcome(device.subarray(0, size)), "string", `${size} bytes`);
});

test("bit flips end in a document or in an InstanceError", () => {
  fc.assert(
    fc.property(fc.nat(device.length * 8 - 1), (bit) => {
      const flipped = device.slice();
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      outcome(flipped);
    }),
    { numRuns: 2000 },
  );
});

const encode = (json: string): Uint8Array => {
  const bytes = new TextEncoder().encode(json);
  const out = new Uint8Array(12 + bytes.length);
  out.set(new TextEncoder().encode("CAISSON1"));
  new DataView(out.buffer).setUint32(8, bytes.length, true);
  out.set(bytes, 12);
  return out;
};
const tooLong = encode(JSON.stringify(instance).padEnd(256 * 1024 + 1));
const refused: Record<string, [Uint8Array, string]> = {
  "another magic": [device.with(0, 0x63), "instance/magic"],
  "a length beyond the limit": [device.with(11, 0xff), "instance/size"],
  "a document of more than 256 KiB, all of which is there": [tooLong, "instance/size"],
  "no JSON": [encode("{"), "instance/content"],
  "no UTF-8": [encode("{}").with(12, 0xff), "instance/content"],
  "an unknown key": [encode(JSON.stringify({ ...instance, extra: 1 })), "instance/content"],
  "an unknown key inside": [
    encode(JSON.stringify({ ...instance, kms: { url: "x", token: "y" } })),
    "instance/content",
  ],
  "a prototype": [
    encode(`{"__proto__":{"kms":{"url":"x"}},${JSON.stringify(instance).slice(1)}`),
    "instance/content",
  ],
  "a short seed": [encode(JSON.stringify({ ...instance, seed: "5a" })), "instance/content"],
  "another version": [
    encode(JSON.stringify({ ...instance, version: "caisson/instance/v2" })),
    "instance/content",
  ],
};
for (const [name, [bytes, code]] of Object.entries(refused)) {
  test(`refused: ${name}`, () => {
    throws(() => decodeInstance(bytes), { code });
  });
}
