// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";
import { toHex } from "@caisson/vocabulary/bytes";
import { mrtd, mrtdBothOrders, type PageOrder } from "../predict/mrtd.ts";
import { firmware, ovmfSections, tdxSections } from "../testing/synthetic.ts";
import { tdHob } from "./td-hob.ts";
import { parseTdxMetadata, type Section } from "./tdvf.ts";

/** MRTD as the module's ABI tells it, one update a block: slow and independent of `mrtd.ts`. */
function referenceMrtd(image: Uint8Array, sections: readonly Section[], order: PageOrder): string {
  const running = createHash("sha384");
  const block = (name: string, address: number) => {
    const bytes = Buffer.alloc(128);
    bytes.write(name);
    bytes.writeBigUInt64LE(BigInt(address), 16);
    running.update(bytes);
  };
  const extend = (section: Section, page: number) => {
    for (let at = page; at < page + 4096; at += 256) {
      block("MR.EXTEND", section.address + at);
      const chunk = Buffer.alloc(256);
      for (let i = 0; i < 256 && at + i < section.rawSize; i++)
        chunk[i] = image[section.dataOffset + at + i]!;
      running.update(chunk);
    }
  };
  for (const section of sections) {
    for (let page = 0; page < section.memorySize; page += 4096) {
      if (!section.augment) block("MEM.PAGE.ADD", section.address + page);
      if (section.extend && order === "single-pass") extend(section, page);
    }
    for (let page = 0; section.extend && order === "two-pass" && page < section.memorySize; page += 4096) {
      extend(section, page);
    }
  }
  return running.digest("hex");
}

for (const form of ["guid-table", "td-shim"] as const) {
  test(`metadata of a ${form} image`, () => {
    const metadata = parseTdxMetadata(firmware(0x10000, undefined, form));
    equal(metadata.form, form);
    deepEqual(
      metadata.sections.map(({ type, address, extend }) => [type, address.toString(16), extend]),
      [
        ["BFV", "ffff4000", true],
        ["CFV", "ffff0000", false],
        ["TempMem", "811000", false],
        ["TempMem", "80b000", false],
        ["TD_HOB", "809000", false],
        ["TempMem", "800000", false],
      ],
    );
  });
}

for (const order of ["single-pass", "two-pass"] as const) {
  test(`MRTD, ${order}, with partial pages, memory beyond the file and augmented sections`, async () => {
    const sections = ovmfSections(0x10000);
    sections[1]!.attributes = 1;
    sections[1]!.rawSize = 0x1234;
    sections.push({
      type: "PermMem",
      dataOffset: 0,
      rawSize: 0,
      address: 0x900000,
      memorySize: 0x3000,
      attributes: 2,
    });
    const image = firmware(0x10000, sections);
    const metadata = parseTdxMetadata(image);
    equal(toHex(await mrtd(image, metadata.sections, order)), referenceMrtd(image, metadata.sections, order));
  });
}

test("the two page orders differ", async () => {
  const image = firmware();
  const { sections } = parseTdxMetadata(image);
  const { singlePass, twoPass } = await mrtdBothOrders(image, sections);
  equal(toHex(singlePass) === toHex(twoPass), false);
  equal(toHex(singlePass), referenceMrtd(image, sections, "single-pass"));
  equal(toHex(twoPass), referenceMrtd(image, sections, "two-pass"));
});

const size = 0x10000;
const with_ = (change: (sections: ReturnType<typeof ovmfSections>) => void) => {
  const sections = ovmfSections(size);
  change(sections);
  return firmware(size, sections);
};
const edited = (change: (image: Uint8Array, descriptor: number) => void) => {
  const image = firmware(size);
  change(image, size - 0x800 + 16);
  return image;
};
for (const [name, image, code] of [
  ["an image without metadata", new Uint8Array(size), "firmware/no-metadata"],
  ["an empty image", new Uint8Array(), "firmware/no-metadata"],
  ["a GUID table longer than the image", edited((i) => i.set([0xff, 0xff], size - 50)), "firmware/metadata"],
  [
    "a descriptor outside the image",
    edited((i) => i.set([0xff, 0xff, 0xff, 0x7f], size - 94)),
    "firmware/metadata",
  ],
  ["a descriptor without its GUID", edited((i, d) => i.set([0], d - 16)), "firmware/metadata"],
  ["another version", edited((i, d) => i.set([2], d + 8)), "firmware/metadata"],
  ["a count that its length denies", edited((i, d) => i.set([5], d + 12)), "firmware/metadata"],
  ["four billion sections", edited((i, d) => i.set([255, 255, 255, 255], d + 12)), "firmware/metadata"],
  ["data beyond the file", with_((s) => (s[0]!.dataOffset = size)), "firmware/section"],
  ["more data than memory", with_((s) => (s[0]!.memorySize = 0x1000)), "firmware/section"],
  ["an unaligned address", with_((s) => (s[0]!.address += 1)), "firmware/section"],
  ["a TempMem with data", with_((s) => (s[2]!.rawSize = 1)), "firmware/section"],
  ["an unknown attribute", with_((s) => (s[0]!.attributes = 4)), "firmware/section"],
  ["measured and augmented at once", with_((s) => (s[0]!.attributes = 3)), "firmware/section"],
  ["a terabyte of added memory", with_((s) => (s[2]!.memorySize = 2 ** 40)), "firmware/metadata"],
  ["a gigabyte of measured memory", with_((s) => (s[0]!.memorySize = 2 ** 30)), "firmware/metadata"],
  ["2^60 bytes of memory", with_((s) => (s[2]!.memorySize = 2 ** 60)), "firmware/section"],
] as const) {
  test(`refused: ${name}`, () => {
    throws(() => parseTdxMetadata(image), { name: "MeasureError", code });
  });
}

test("an image above the size limit is refused before anything is read", async () => {
  await rejects(async () => parseTdxMetadata(new Uint8Array((64 << 20) + 1)), { code: "firmware/too-large" });
});

// Real guests: the TD HOB digests in the logs of two quoted dstack guests (IntelTdxX64 sections, QEMU).
const inteltdx = tdxSections([0x810000, 0x10000]);
const GIB = 2 ** 30;
for (const [gib, digest] of [
  [2, "0b8772e5b0b41b83e6044a68397e02f4"],
  [16, "cd2312a0d87ef3c4a928df87"],
  [64, "8ae1e425351df7992c444586eff99d35"],
] as const) {
  test(`the TD HOB of a real guest with ${gib} GiB`, () => {
    const hash = createHash("sha384")
      .update(tdHob(inteltdx, gib * GIB))
      .digest("hex");
    equal(hash.slice(0, digest.length), digest);
  });
}

test("RAM moves above 4 GiB from 2.75 GiB on", () => {
  const below = tdHob(inteltdx, 0xb0000000 - 4096);
  const above = tdHob(inteltdx, 0xb0000000);
  equal(above.length - below.length, 48);
  const last = new DataView(above.buffer, above.length - 48);
  equal(last.getBigUint64(32, true), 1n << 32n);
  equal(last.getBigUint64(40, true), 0x30000000n);
});

for (const [name, memory] of [
  ["no memory", 0],
  ["half a page", 2 * GIB + 2048],
  ["less than the sections need", 0x810000],
  ["not a number", Number.NaN],
] as const) {
  test(`refused: ${name}`, () => {
    throws(() => tdHob(inteltdx, memory), { code: "firmware/memory" });
  });
}

test("GCE lists sections in metadata order, then unaccepted memory, split at 3 GiB", () => {
  const hob = tdHob(inteltdx, 16 * GIB, "gce");
  const view = new DataView(hob.buffer);
  const rows = Array.from({ length: (hob.length - 56) / 48 }, (_, i) => {
    const at = 56 + 48 * i;
    return [
      view.getUint32(at + 24, true),
      view.getUint32(at + 28, true),
      view.getBigUint64(at + 32, true),
    ] as const;
  });
  deepEqual(
    rows.slice(0, 4).map((row) => row[2]),
    [0x810000n, 0x80b000n, 0x809000n, 0x800000n],
  );
  deepEqual(rows.at(-1), [7, 0x10000007, 1n << 32n]);
  equal(view.getBigUint64(48, true), BigInt(0x809000 + hob.length));
});
