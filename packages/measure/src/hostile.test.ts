// SPDX-License-Identifier: Apache-2.0
/**
 * Hostile inputs: every parser meets every truncation and many bit flips of well-formed inputs. It may accept or throw a
 * MeasureError, and nothing else; sizes in headers must not decide over memory or time.
 */
import { ok } from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { MeasureError } from "./errors.ts";
import { deriveLoader, measuredAcpiFiles } from "./formats/acpi-tables.ts";
import { authenticode } from "./formats/authenticode.ts";
import { gptEvent } from "./formats/gpt.ts";
import { patchSetupHeader } from "./formats/kernel.ts";
import { measuredSmbios, withProcessor } from "./formats/smbios.ts";
import { tdHob } from "./formats/td-hob.ts";
import { parseTdxMetadata } from "./formats/tdvf.ts";
import { parseUki } from "./formats/uki.ts";
import { readVariableStore } from "./formats/variables.ts";
import { measuredEvents, parseEventLog, payloadBinding } from "./logs/event-log.ts";
import { replayPcrs } from "./logs/tpm-log.ts";
import { mrtd } from "./predict/mrtd.ts";
import * as make from "./testing/synthetic.ts";

const GIB = 2 ** 30;
const digest = make.noise(48, 4);
const smallFirmware = make.firmware(0x8000, make.ovmfSections(0x8000));
/** The flips land where structure is: `from` to the end, or the whole input. */
const parsers: {
  name: string;
  input: Uint8Array;
  from?: number;
  to?: number;
  run: (bytes: Uint8Array) => unknown;
}[] = [
  {
    name: "firmware",
    input: smallFirmware,
    from: 0x7800,
    run: async (bytes) => {
      const { sections } = parseTdxMetadata(bytes);
      tdHob(sections, 2 * GIB);
      tdHob(sections, 2 * GIB, "gce");
      const measured = sections.reduce((sum, { memorySize }) => sum + memorySize, 0);
      if (measured < 1 << 20) await mrtd(bytes, sections, "two-pass");
    },
  },
  { name: "PE", input: make.pe({ certificate: make.noise(16) }), to: 0x200, run: authenticode },
  {
    name: "UKI",
    input: make.pe({
      sections: [
        [".linux", make.noise(30)],
        [".cmdline", new TextEncoder().encode("console=ttyS0 quiet")],
      ],
    }),
    to: 0x400,
    run: parseUki,
  },
  {
    name: "kernel",
    input: make.kernel(64),
    to: 0x400,
    run: (bytes) => authenticode(patchSetupHeader(bytes, GIB, 4096)),
  },
  {
    name: "GPT",
    input: make.gptDisk([make.noise(128)]),
    from: 512,
    to: 1024,
    run: (bytes) => gptEvent(bytes),
  },
  {
    name: "event log",
    input: make.eventLog(
      [[0xc, 48]],
      [
        { index: 1, type: 0x80000002, digests: [[0xc, digest]], data: make.noise(40) },
        { index: 4, type: 4, digests: [[0xc, digest]], data: new Uint8Array(4) },
      ],
    ),
    run: async (bytes) => {
      const log = parseEventLog(bytes);
      await replayPcrs(log);
      for (const event of measuredEvents(log, "pcr")) await payloadBinding(event);
      measuredEvents(log, "cc");
    },
  },
  {
    name: "ACPI tables",
    input: make.acpiTables(["APIC", "TPM2"], 0x480),
    run: (bytes) => measuredAcpiFiles({ "etc/acpi/tables": bytes }),
  },
  {
    name: "ACPI loader",
    input: deriveLoader(make.acpiTables()),
    run: (bytes) => measuredAcpiFiles({ "etc/acpi/tables": make.acpiTables(), "etc/table-loader": bytes }),
  },
  {
    name: "SMBIOS tables",
    input: make.syntheticSmbios(),
    run: (bytes) => {
      measuredSmbios(bytes, { vendor: "a vendor", version: "1.0", releaseDate: "01/02/2026" });
      withProcessor(bytes, new Uint8Array(8));
    },
  },
  {
    name: "variable store",
    input: make.variableStore(
      [{ name: "PK", guid: "8be4df61-93ca-11d2-aa0d-00e098032b8c", data: make.noise(9) }],
      0x200,
    ),
    run: readVariableStore,
  },
];

async function acceptsOrRefuses(run: (bytes: Uint8Array) => unknown, bytes: Uint8Array): Promise<void> {
  try {
    await run(bytes);
  } catch (error) {
    ok(
      error instanceof MeasureError,
      `not a MeasureError: ${error instanceof Error ? error.stack : String(error)}`,
    );
  }
}

for (const { name, input, from = 0, to = input.length, run } of parsers) {
  test(`${name}: the well-formed input is accepted`, async () => {
    await run(input);
  });

  test(`${name}: every truncation`, async () => {
    const step = Math.max(1, Math.floor(input.length / 4096));
    for (let length = 0; length < input.length; length += step) {
      await acceptsOrRefuses(run, input.subarray(0, length));
    }
  });

  test(`${name}: overwritten bytes and words`, async () => {
    const offset = fc.integer({ min: from, max: to - 1 });
    const patch = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 4 }),
      fc.constantFrom(
        Uint8Array.of(0, 0, 0, 0),
        Uint8Array.of(255, 255, 255, 255),
        Uint8Array.of(255, 255, 255, 127),
        Uint8Array.of(0, 0, 0, 128),
      ),
    );
    const edits = fc.array(fc.tuple(offset, patch), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(edits, async (changes) => {
        const bytes = input.slice();
        for (const [at, values] of changes) bytes.set(values.subarray(0, bytes.length - at), at);
        await acceptsOrRefuses(run, bytes);
      }),
      { numRuns: 400 },
    );
  });
}
