// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import test from "node:test";
import { concat } from "@caisson/vocabulary/bytes";
import { noise, smbiosStructure, syntheticSmbios } from "../testing/synthetic.ts";
import { firmwareInformation, measuredSmbios, withProcessor } from "./smbios.ts";

const identity = { vendor: "EDK II", version: "2026.08", releaseDate: "09/26/2026" };
const end = smbiosStructure(127, 0x7f00, new Uint8Array());
const measuredEnd = smbiosStructure(127, 0xfeff, new Uint8Array());
/** A type 0 of QEMU's, so that the firmware adds none. */
const zero = smbiosStructure(0, 0, noise(20));
const measured = (structure: Uint8Array) => {
  const all = measuredSmbios(concat(zero, structure, end), undefined);
  return all.subarray(zero.length, all.length - measuredEnd.length);
};

test("the firmware's own type 0 comes last, with the lowest free handle, and the end gets the highest", () => {
  const first = smbiosStructure(16, 0, noise(9));
  const own = firmwareInformation.slice();
  own[2] = 1;
  deepEqual(
    measuredSmbios(concat(first, end), identity),
    concat(first, own, new TextEncoder().encode("EDK II\x002026.08\x0009/26/2026\0\0"), measuredEnd),
  );
});

test("a type 0 of the machine's stays the only one", () => {
  deepEqual(measuredSmbios(concat(zero, end), identity), concat(zero, measuredEnd));
});

test("serial number, UUID and wake-up type of a system are blanked; its model stays", () => {
  const fields = concat(Uint8Array.of(1, 2, 0, 3), noise(16), Uint8Array.of(6, 4, 0));
  const blankFields = concat(Uint8Array.of(1, 2, 0, 0), new Uint8Array(17), Uint8Array.of(4, 0));
  deepEqual(
    measured(smbiosStructure(1, 1, fields, ["maker", "model", "serial", "sku"])),
    smbiosStructure(1, 1, blankFields, ["maker", "model", "      ", "sku"]),
  );
});

test("a processor's ID stays, its counts of cores do not, and fields behind its end are none", () => {
  const long = noise(0x30 - 4);
  const short = noise(0x23 - 4);
  for (const fields of [long, short]) {
    fields.fill(0, 0x20 - 4, 0x23 - 4);
    const expected = fields.slice();
    for (const [at, size] of [
      [0x11, 1],
      [0x16, 2],
      [0x23, 3],
      [0x2a, 6],
    ] as const)
      expected.fill(0, at - 4, at - 4 + size);
    deepEqual(measured(smbiosStructure(4, 1, fields)), smbiosStructure(4, 1, expected));
  }
});

for (const type of [11, 15, 18, 31, 33, 128, 255]) {
  test(`of type ${type} only the header is measured`, () => {
    const structure = smbiosStructure(type, 1, noise(7), ["text"]);
    deepEqual(measured(structure), structure.slice().fill(0, 4));
  });
}

test("other types are measured as they are", () => {
  const structure = smbiosStructure(16, 1, noise(11), ["text"]);
  deepEqual(measured(structure), structure);
});

test("a serial number that names no string: the last one is blanked, as edk2 does", () => {
  deepEqual(
    measured(smbiosStructure(3, 1, Uint8Array.of(1, 2, 3, 9, 0), ["maker", "last"])),
    smbiosStructure(3, 1, Uint8Array.of(1, 2, 3, 0, 0), ["maker", "    "]),
  );
});

test("another processor: its ID in every type 4, and nothing else", () => {
  const [tables, id] = [syntheticSmbios(), noise(8, 99)];
  const changed = withProcessor(tables, id);
  const differing = [...tables.keys()].filter((at) => tables[at] !== changed[at]);
  const [from, to] = [differing[0]!, differing.at(-1)! + 1];
  equal(to - from <= 8, true);
  deepEqual(changed.subarray(to - 8, to), id);
  throws(() => withProcessor(tables, noise(7)), { code: "prediction/input" });
});

for (const [name, tables, code] of [
  ["nothing", new Uint8Array(), "smbios/truncated"],
  ["no end", zero, "smbios/truncated"],
  ["a header of three bytes", concat(Uint8Array.of(1, 3, 0, 0), end), "smbios/malformed"],
  ["a handle twice", concat(zero, zero, end), "smbios/malformed"],
  ["a handle that edk2 refuses", concat(smbiosStructure(1, 0xff00, noise(9)), end), "smbios/malformed"],
  ["more than an entry point describes", new Uint8Array(0x10000), "smbios/malformed"],
] as const) {
  test(`refused: ${name}`, () => {
    throws(() => measuredSmbios(tables, identity), { name: "MeasureError", code });
  });
}

test("refused: an identity that the firmware could not have, where it is needed", () => {
  for (const version of ["", "2.", "2026\0", "größer"]) {
    throws(() => measuredSmbios(end, { ...identity, version }), { code: "prediction/input" });
  }
});
