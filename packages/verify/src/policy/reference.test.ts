// SPDX-License-Identifier: Apache-2.0
/** Reference values in the forms in which they come. */
import { deepEqual, throws } from "node:assert/strict";
import { test } from "node:test";
import { readReferences } from "./reference.ts";

const [a, b, c] = ["a1", "b2", "c3"].map((byte) => byte.repeat(48)) as [string, string, string];

test("a tuple, a list of tuples, tuples by name", () => {
  deepEqual(readReferences({ mrtd: a, rtmr0: b.toUpperCase() }, "x"), [
    { name: "x", registers: { mrtd: a, rtmr0: b } },
  ]);
  deepEqual(readReferences([{ rtmr1: a }, { rtmr1: b }], "x"), [
    { name: "x/0", registers: { rtmr1: a } },
    { name: "x/1", registers: { rtmr1: b } },
  ]);
  deepEqual(readReferences({ small: { rtmr2: c } }, "x"), [{ name: "x/small", registers: { rtmr2: c } }]);
});

test("a manifest: only its measurements, by platform; RTMR3 is not a reference", () => {
  const manifest = {
    mrtd: a,
    measurements: { tdx: { "2-cpus": { mrtd: b, rtmr3: a } }, emulated: [{ mrtd: c }] },
  };
  deepEqual(readReferences(manifest, "m"), [
    { name: "m/tdx/2-cpus", platform: "tdx", registers: { mrtd: b } },
    { name: "m/emulated/0", platform: "emulated", registers: { mrtd: c } },
  ]);
});

test("a prediction of a TD: one tuple for each page order; an open register is not covered", () => {
  const registers = { rtmr0: { open: ["acpi"] }, rtmr1: { value: b, open: [] } };
  const prediction = {
    platform: "tdx",
    mrtd: { singlePass: a, twoPass: c },
    registers,
    events: [{ digest: a }],
  };
  deepEqual(readReferences(prediction, "p"), [
    { name: "p/singlePass", platform: "tdx", registers: { rtmr1: b, mrtd: a } },
    { name: "p/twoPass", platform: "tdx", registers: { rtmr1: b, mrtd: c } },
  ]);
});

test("a prediction of the emulated platform: MRTD is a fold like the others", () => {
  const prediction = {
    platform: "emulated",
    registers: { mrtd: { value: a, open: [] }, rtmr0: { value: b, open: [] } },
  };
  deepEqual(readReferences(prediction, "p"), [
    { name: "p", platform: "emulated", registers: { mrtd: a, rtmr0: b } },
  ]);
});

const malformed: [name: string, document: unknown][] = [
  ["nothing", {}],
  ["no object", "registers"],
  ["a register of 47 bytes", { mrtd: a.slice(2) }],
  ["a register that is a number", { mrtd: 1 }],
  ["a prediction with a register of another form", { registers: { rtmr0: { value: "00" } } }],
  ["a prediction with one page order", { mrtd: { singlePass: a }, registers: {} }],
  ["a prediction whose registers are all open", { registers: { rtmr0: { open: ["acpi"] } } }],
  ["more tuples than anyone measures", Array.from({ length: 4097 }, () => ({ mrtd: a }))],
];
for (const [name, document] of malformed) {
  test(`refused: ${name}`, () =>
    throws(() => readReferences(document, "x"), { code: "reference/malformed" }));
}
