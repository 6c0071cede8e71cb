// SPDX-License-Identifier: Apache-2.0
import { equal } from "node:assert/strict";
import { test } from "node:test";
import { mmioWindow } from "./fw-cfg.ts";
import { emulatedPhysicalBits, emulatedProcessor } from "./machine.ts";

const GIB = 2 ** 30;

for (const [name, memory, vendor, physicalBits, expected] of [
  ["the captured TD", 16, "GenuineIntel", 46, 0x380000000000n],
  ["more than 46 bits are 46", 16, "GenuineIntel", 52, 0x380000000000n],
  ["a boot under TCG: HyperTransport's range is avoided", 1, "AuthenticAMD", 40, 0xc000000000n],
  ["40 bits of Intel's are QEMU's default, not believed", 1, "GenuineIntel", 40, 0x800000000n],
  ["39 bits of Intel's are believed", 1, "GenuineIntel", 39, 0x7000000000n],
  ["39 bits of AMD's are not", 1, "AuthenticAMD", 39, 0x800000000n],
  ["36 bits of Intel's are believed, but an eighth is less than 32 GiB", 1, "GenuineIntel", 36, 0x800000000n],
  ["the top eighth would begin in RAM", 500, "GenuineIntel", 39, 0x8000000000n],
  ["another vendor's 40 bits are not believed", 1, "HygonGenuine", 40, 0x800000000n],
  ["another vendor's 48 bits are", 1, "HygonGenuine", 48, 0x380000000000n],
] as const) {
  test(`OVMF's MMIO window: ${name}`, () => {
    equal(mmioWindow(memory * GIB, { vendor, physicalBits }), expected);
  });
}

test("the emulated machine's window depends on its memory alone, whoever made the host's processor", () => {
  for (const vendor of ["GenuineIntel", "AuthenticAMD", "HygonGenuine"]) {
    for (const [memory, expected] of [
      [0.5, 0x800000000n],
      [2.75, 0x800000000n],
      [30, 0x800000000n],
      [31, 0x1000000000n],
      [128, 0x2800000000n],
    ] as const) {
      equal(mmioWindow(memory * GIB, { vendor, physicalBits: emulatedPhysicalBits }), expected);
    }
  }
});

test("the processor is the host's under KVM, with the same address bits as TCG's", () => {
  equal(emulatedProcessor("kvm"), "host,host-phys-bits=off,phys-bits=38");
  equal(emulatedProcessor("tcg"), "max,host-phys-bits=off,phys-bits=38,la57=off");
});
