// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, notDeepEqual, rejects, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";
import { concat } from "@caisson/vocabulary/bytes";
import { kernel, noise, pe } from "../testing/synthetic.ts";
import { authenticode, parsePe } from "./authenticode.ts";
import { patchSetupHeader } from "./kernel.ts";
import { parseUki } from "./uki.ts";

const CHECKSUM = 0x40 + 24 + 64;
const SECURITY = 0x40 + 24 + 112 + 32;
const sha384 = (...parts: Uint8Array[]) =>
  new Uint8Array(
    createHash("sha384")
      .update(concat(...parts))
      .digest(),
  );

test("everything is hashed but checksum, certificate entry and certificates", async () => {
  const image = pe({ trailing: noise(100), certificate: noise(64) });
  const signed = image.subarray(0, image.length - 64);
  const expected = sha384(
    signed.subarray(0, CHECKSUM),
    signed.subarray(CHECKSUM + 4, SECURITY),
    signed.subarray(SECURITY + 8),
  );
  deepEqual(await authenticode(image), expected);
});

test("neither checksum nor certificate change the digest; one byte of a section does", async () => {
  const image = pe({ certificate: noise(64) });
  const other = image.slice();
  other.set([1, 2, 3, 4], CHECKSUM);
  other.fill(0, image.length - 64);
  deepEqual(await authenticode(image), await authenticode(other));
  other[600]! ^= 1;
  notDeepEqual(await authenticode(image), await authenticode(other));
});

test("sections count in file order, whatever the table's order", async () => {
  const image = pe({
    sections: [
      [".a", noise(512, 1)],
      [".b", noise(512, 2)],
    ],
  });
  const table = 0x40 + 24 + 240;
  const swapped = image.slice();
  swapped.set(image.subarray(table + 40, table + 80), table);
  swapped.set(image.subarray(table, table + 40), table + 40);
  const expected = sha384(
    swapped.subarray(0, CHECKSUM),
    swapped.subarray(CHECKSUM + 4, SECURITY),
    swapped.subarray(SECURITY + 8),
  );
  deepEqual(await authenticode(swapped), expected);
});

test("a section that goes on after the file is told as that, for whoever reads it", () => {
  const image = pe();
  const table = 0x40 + 24 + 240;
  new DataView(image.buffer).setUint32(table + 16, image.length, true);
  throws(() => parsePe(image), { code: "pe/malformed", message: /section data outside the file/ });
});

test("an image without a security directory is hashed without the gap", async () => {
  const image = pe();
  image[0x40 + 24 + 108] = 4; // NumberOfRvaAndSizes
  deepEqual(await authenticode(image), sha384(image.subarray(0, CHECKSUM), image.subarray(CHECKSUM + 4)));
});

const changed = (offset: number, ...bytes: number[]) => {
  const image = pe();
  image.set(bytes, offset);
  return image;
};
for (const [name, image] of [
  ["no MZ", changed(0, 0)],
  ["no PE signature", changed(0x40, 0)],
  ["an unknown optional header", changed(0x58, 0)],
  ["ten thousand sections", changed(0x46, 0x10, 0x27)],
  ["headers beyond the file", changed(0x40 + 24 + 60, 0xff, 0xff, 0xff, 0x7f)],
  ["headers that end before the section table", changed(0x40 + 24 + 60, 16, 0)],
  ["a section beyond the file", changed(0x40 + 24 + 240 + 16, 0, 0, 0, 0x7f)],
  ["a certificate larger than the file", changed(SECURITY + 4, 0, 0, 0, 0x7f)],
] as const) {
  test(`refused: ${name}`, async () => {
    await rejects(authenticode(image), { name: "MeasureError", code: "pe/malformed" });
  });
}

test("QEMU's header patch without initrd touches four fields", () => {
  const before = kernel();
  const after = patchSetupHeader(before, 2 ** 30, undefined);
  const differing = [...after.keys()].filter((i) => after[i] !== before[i]);
  deepEqual(differing, [0x210, 0x211, 0x225, 0x22a]);
  equal(after[0x210], 0xb0);
  equal(after[0x211], 0x81);
  equal(new DataView(after.buffer).getUint16(0x224, true), 0xfe00);
  equal(new DataView(after.buffer).getUint32(0x228, true), 0x20000);
});

const GIB = 2 ** 30;
// initrd_max of dstack-mr's published cases: below 4 GiB minus 160 KiB, page-aligned downwards.
for (const [memory, xloadflags, expected] of [
  [1 * GIB, 0x03, GIB - 0x28000 - 0x2000],
  [2 * GIB, 0x03, 0x80000000 - 0x28000 - 0x2000],
  [4 * GIB, 0x03, 0x80000000 - 0x28000 - 0x2000],
  [2.5 * GIB, 0x01, 0x7fffffff - 0x1fff],
  [2.5 * GIB, 0x03, 2.5 * GIB - 0x28000 - 0x2000],
] as const) {
  test(`an initrd of 8191 bytes with ${memory / GIB} GiB, xloadflags ${xloadflags}`, () => {
    const patched = new DataView(patchSetupHeader(kernel(0x4000, xloadflags), memory, 8191).buffer);
    equal(patched.getUint32(0x218, true), expected - (expected % 4096));
    equal(patched.getUint32(0x21c, true), 8191);
  });
}

test("refused: a kernel without boot protocol, and an initrd larger than memory", () => {
  throws(() => patchSetupHeader(pe(), GIB, undefined), { code: "kernel/malformed" });
  throws(() => patchSetupHeader(new Uint8Array(0x100), GIB, undefined), { code: "kernel/truncated" });
  throws(() => patchSetupHeader(kernel(), GIB, GIB), { code: "kernel/malformed" });
});

test("a UKI comes apart into kernel, command line and initrd, cut to their true sizes", () => {
  const inner = kernel(600);
  const uki = parseUki(
    pe({
      sections: [
        [".text", noise(100)],
        [".linux", inner],
        [".cmdline", new TextEncoder().encode("console=ttyS0 quiet\n")],
        [".initrd", noise(333)],
      ],
    }),
  );
  deepEqual(uki.kernel, inner);
  equal(uki.commandLine, "console=ttyS0 quiet");
  deepEqual(uki.initrd, noise(333));
});
