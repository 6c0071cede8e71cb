// SPDX-License-Identifier: Apache-2.0
import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import { test } from "node:test";
import { readFirmware } from "./firmware.ts";
import { classOf, comparisonSvg, comparisonTable, describe } from "./firmware-compare.ts";
import { goodImage } from "./testing/facts.ts";

const named: [name: string, expected: string][] = [
  ["Shell", "shell"],
  ["tftpDynamicCommand", "shell"],
  ["HttpBootDxe", "network"],
  ["PiSmmCpuDxeSmm", "system management"],
  ["XhciDxe", "usb and input"],
  ["VirtioGpuDxe", "display and console"],
  ["NvmExpressDxe", "storage"],
  ["Fat", "file systems"],
  ["QemuFwCfgAcpiPlatform", "host tables"],
  ["TdTcg2Dxe", "measurement"],
  ["VariableRuntimeDxe", "secure boot and variables"],
  ["VirtioPciDeviceDxe", "buses"],
  ["DxeCore", "core"],
];
for (const [name, expected] of named) {
  test(`${name} belongs to ${expected}`, () =>
    equal(classOf({ guid: "", name, type: "DXE driver", size: 1 }), expected));
}

const facts = (names: string[]) => ({
  ...goodImage().firmware,
  modules: names.map((name) => ({ guid: "", name, type: "DXE driver", size: 1024 })),
});

test("what a firmware can boot follows from its modules", () => {
  equal(describe("a", facts(["QemuKernelLoaderFsDxe"]), undefined).traits["boots"], "kernel from QEMU");
  equal(
    describe("b", facts(["PartitionDxe", "Fat", "UefiPxeBcDxe"]), undefined).traits["boots"],
    "UKI on a disk, network",
  );
  equal(describe("c", facts(["DxeCore"]), undefined).traits["boots"], "nothing");
});

test("sizes by class add up", () => {
  const row = describe("a", facts(["Shell", "HttpDxe", "DxeCore"]), undefined);
  const sum = Object.values(row.classes!).reduce((total, { bytes }) => total + bytes, 0);
  equal(sum, 3 * 1024);
  equal(row.traits["network stack"], "yes");
});

test("what is not a firmware gives facts that say so", () => {
  const read = readFirmware(new Uint8Array(4096));
  deepEqual([read.sections, read.modules, read.form], [[], undefined, undefined]);
  ok(read.unlisted !== undefined);
  match(comparisonTable([describe("zeros", read, undefined)]), /TDX metadata +none/);
});

test("the picture is proportional, escaped, and self-contained", () => {
  const svg = comparisonSvg([
    describe("<a>", facts(["Shell", "DxeCore"]), undefined),
    describe("b", facts(["DxeCore"]), undefined),
  ]);
  const widths = [...svg.matchAll(/width="([\d.]+)" height="34"/g)].map(([, width]) => Number(width));
  equal(Math.round(widths.reduce((a, b) => a + b, 0)), 760 + 380);
  match(svg, /&lt;a&gt;/);
  doesNotMatch(svg, /href|<script|<a>/);
});
