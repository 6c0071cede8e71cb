// SPDX-License-Identifier: Apache-2.0
/** What files leave uncertain: UKIs as the stub sees them, what stays open, and what a prediction says that it assumed. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";
import { concat } from "@caisson/vocabulary/bytes";
import { ACPI_LOADER, ACPI_TABLES } from "../formats/acpi-tables.ts";
import { parseUki } from "../formats/uki.ts";
import { acpiTables, firmware, kernel, noise, pe, variableStore } from "../testing/synthetic.ts";
import { assumptions } from "./assumptions.ts";
import { predict } from "./predict.ts";
import type { PredictInput } from "./prediction.ts";

const sha384 = (bytes: Uint8Array) => createHash("sha384").update(bytes).digest("hex");
const text = (value: string) => new TextEncoder().encode(value);
const base: PredictInput = {
  platform: "tdx",
  firmware: firmware(),
  firmwareRelease: "202502",
  boot: { method: "direct", kernel: kernel(), commandLine: "console=ttyS0" },
  memory: 4 * 2 ** 30,
  qemu: "10.0.13",
  acpi: { [ACPI_TABLES]: acpiTables() },
};

const linux = [".linux", noise(9)] as const;
for (const [name, sections, code, kind] of [
  ["no kernel", [[".cmdline", noise(1)]], "uki/malformed", "input"],
  ["a kernel of no bytes", [[".linux", new Uint8Array()]], "uki/malformed", "input"],
  ["a command line that is not ASCII", [linux, [".cmdline", text("a=ü")]], "uki/unsupported", "unsupported"],
  ["two kernels", [linux, linux], "uki/unsupported", "unsupported"],
  ["two profiles", [linux, [".profile", noise(1)], [".profile", noise(2)]], "uki/unsupported", "unsupported"],
] as const) {
  test(`refused UKI: ${name}`, () => {
    throws(() => parseUki(pe({ sections })), { name: "MeasureError", code, kind });
  });
}

/** A copy of a PE whose section `name` has `size` bytes in memory. */
function inMemory(image: Uint8Array, name: string, size: number): Uint8Array {
  const copy = image.slice();
  const at = Buffer.from(copy).indexOf(name, 0, "latin1");
  new DataView(copy.buffer).setUint32(at + 8, size, true);
  return copy;
}

const uname = noise(700, 5);
const withUname = pe({
  sections: [
    [".linux", kernel(600)],
    [".cmdline", text("a=b")],
    [".uname", uname],
  ],
});
for (const [size, expected] of [
  [0, undefined],
  [1, uname.subarray(0, 1)],
  [700, uname],
  [1024, concat(uname, new Uint8Array(324))],
  [1124, concat(uname, new Uint8Array(424))],
] as const) {
  test(`a UKI's section of 1024 bytes on disk and ${size} in memory counts as it lies in memory`, async () => {
    const image = inMemory(withUname, ".uname", size);
    deepEqual(parseUki(image).sections.get(".uname"), expected);
    const { events } = await predict({ ...base, boot: { method: "uki", image, sectionsMeasured: true } });
    const measured = events.filter(({ what }) => what.includes(".uname")).map(({ digest }) => digest);
    const name = sha384(text(".uname\0"));
    deepEqual(measured, expected === undefined ? [] : [name, sha384(expected)]);
  });
}

test("the same holds for a UKI's kernel, command line and initrd", () => {
  const sections = [linux, [".cmdline", text("a=b")], [".initrd", noise(8)]] as const;
  const image = pe({ sections });
  deepEqual(parseUki(inMemory(image, ".linux", 600)).kernel, concat(noise(9), new Uint8Array(591)));
  equal(parseUki(inMemory(image, ".cmdline", 600)).commandLine, "a=b");
  equal(parseUki(inMemory(image, ".cmdline", 2)).commandLine, "a=");
  equal(parseUki(inMemory(image, ".initrd", 600)).initrd?.length, 600);
  throws(() => parseUki(inMemory(image, ".linux", 0xffffffff)), { code: "uki/malformed" });
});

for (const [name, commandLine] of [
  ["without a command line", undefined],
  ["whose command line is empty in memory", new Uint8Array()],
] as const) {
  test(`a UKI ${name} leaves the line to the boot entry: open`, async () => {
    const own = commandLine === undefined ? [] : [[".cmdline", commandLine] as const];
    const image = pe({ sections: [[".linux", kernel(600)], ...own] });
    const { registers } = await predict({ ...base, boot: { method: "uki", image, sectionsMeasured: true } });
    deepEqual(registers.rtmr2?.open, ["kernel command line"]);
  });
}

const measuring = concat(kernel(600), text("Measured initrd data into PCR 9\n"));
for (const [name, inner, sections, expected] of [
  ["an initrd alone", kernel(600), [".initrd"], "known"],
  ["an initrd beside what the stub archives", kernel(600), [".initrd", ".osrel"], "open"],
  ["archives alone, and a kernel that loads an initrd", measuring, [".pcrsig"], "open"],
  ["archives alone, and a kernel without initrd support", kernel(600), [".osrel", ".ucode"], "none"],
  ["nothing", measuring, [], "none"],
] as const) {
  test(`what a UKI's kernel measures as initrd, given ${name}: ${expected}`, async () => {
    const image = pe({
      sections: [
        [".linux", inner],
        [".cmdline", text("a")],
        ...sections.map((of) => [of, noise(8)] as const),
      ],
    });
    const { events } = await predict({ ...base, boot: { method: "uki", image, sectionsMeasured: true } });
    const initrd = events.find(({ what }) => what === "initrd");
    const found = initrd === undefined ? "none" : initrd.digest === undefined ? "open" : "known";
    equal(found, expected);
  });
}

test("what a prediction takes for granted can be asked for", () => {
  const assumed = (change: Partial<PredictInput>) => assumptions({ ...base, ...change });
  const all = assumed({ firmwareRelease: "202508" }).join("\n");
  for (const part of ["fw_cfg", "Secure Boot", "ACPI loader"]) ok(all.includes(part), part);
  const acpi = { [ACPI_TABLES]: acpiTables(), [ACPI_LOADER]: new Uint8Array(128) };
  deepEqual(assumed({ secureBoot: "absent", acpi }), []);

  const named = (version: string) => {
    const image = kernel();
    new DataView(image.buffer).setUint16(0x20e, 0x100, true);
    image.set(text(`${version} (builder) #1`), 0x300);
    return image;
  };
  const lines = (change: Partial<PredictInput["boot"]>) =>
    assumed({ secureBoot: "absent", acpi, boot: { ...base.boot, ...change } as PredictInput["boot"] });
  deepEqual(lines({ kernel: named("6.9.0-1-amd64") }), []);
  deepEqual(lines({ kernel: named("6.8.12") }).length, 1);
  deepEqual(lines({ initrd: noise(8) }).length, 1);
  deepEqual(
    lines({ initrd: noise(8), kernel: concat(kernel(), text("Measured initrd data into PCR 9")) }),
    [],
  );
  ok(lines({ method: "uki", image: withUname, sectionsMeasured: true }).join().includes("beside the UKI"));
});

test("a variable store with boot entries of its own leaves the boot variables open", async () => {
  const GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
  const image = firmware();
  image.set(variableStore([{ name: "BootOrder", guid: GLOBAL, data: noise(2) }]));
  deepEqual((await predict({ ...base, firmware: image })).registers.rtmr0?.open, ["boot variables"]);
});

test("without its variable store an emulated machine's Secure Boot variables are open", async () => {
  const { registers } = await predict({ ...base, platform: "emulated" });
  deepEqual(
    registers.rtmr0?.open,
    ["SecureBoot", "PK", "KEK", "db", "dbx"].map((name) => `variable ${name}`),
  );
});
