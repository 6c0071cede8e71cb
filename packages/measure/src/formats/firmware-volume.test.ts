// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import test from "node:test";
import { concat } from "@caisson/vocabulary/bytes";
import { compressSync } from "@napi-rs/lzma/lzma";
import fc from "fast-check";
import { utf16le } from "../bytes.ts";
import { MeasureError } from "../errors.ts";
import { ffsFile, ffsLzma, ffsName, ffsSection, firmwareVolume, noise } from "../testing/synthetic.ts";
import { firmwareIdentity, firmwareTraits, firmwareVolumes, ovmfVolumes } from "./firmware-volume.ts";
import { decompressLzma } from "./lzma.ts";
import { firmwareInformation } from "./smbios.ts";

/** liblzma leaves the size open; edk2's tool writes it. */
function lzma(bytes: Uint8Array): Uint8Array {
  const stream = new Uint8Array(compressSync(bytes));
  new DataView(stream.buffer).setBigUint64(5, BigInt(bytes.length), true);
  return stream;
}

test("LZMA: what liblzma compressed comes back, whatever it is", () => {
  const random = fc.uint8Array({ maxLength: 3000 });
  const repetitive = fc
    .array(fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.integer({ min: 1, max: 60 })), {
      maxLength: 12,
    })
    .map((runs) => concat(...runs.flatMap(([bytes, times]) => Array.from({ length: times }, () => bytes))));
  fc.assert(
    fc.property(fc.oneof(random, repetitive), (bytes) => {
      deepEqual(decompressLzma(lzma(bytes), 1 << 20), Uint8Array.from(bytes));
    }),
    { numRuns: 150 },
  );
});

test("LZMA: long distances and long matches", () => {
  const block = noise(70_000);
  const bytes = concat(block, new Uint8Array(100_000), block, block.subarray(5));
  deepEqual(decompressLzma(lzma(bytes), 1 << 20), bytes);
});

test("LZMA refuses an output above the limit before it makes room for it", () => {
  const stream = lzma(noise(100));
  throws(() => decompressLzma(stream, 99), { code: "volume/too-large" });
  new DataView(stream.buffer).setBigUint64(5, 2n ** 63n, true);
  throws(() => decompressLzma(stream, 2 ** 40), { code: "volume/too-large" });
});

const DXE = "7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1";
const dxe = firmwareVolume(
  DXE,
  [
    ffsFile(0x07, 1, ffsSection(0x10, noise(300)), ffsName("TcpDxe")),
    ffsFile(0xf0, 2, noise(40)),
    ffsFile(0x09, 3, ffsSection(0x10, noise(100)), ffsName("Shell")),
    ffsFile(0x07, 4, ffsName("SecureBootConfigDxe")),
    ffsFile(0x02, 5, ffsSection(0x19, noise(10))),
  ],
  0x1000,
);
const image = concat(
  new Uint8Array(0x1000),
  firmwareVolume(
    "48db5e17-707c-472d-91cd-1613e7ef51b0",
    [ffsFile(0x0b, 9, ffsLzma(lzma(ffsSection(0x17, dxe))))],
    0x4000,
  ),
);

test("volumes inside compressed files are found, with their files' types and names", () => {
  const [outer, inner] = firmwareVolumes(image);
  deepEqual([outer?.offset, outer?.depth, outer?.compressed, outer?.size], [0x1000, 0, false, 0x4000]);
  deepEqual([inner?.guid, inner?.depth, inner?.compressed], [DXE, 1, true]);
  deepEqual(
    inner?.files.map(({ type, name }) => [type, name]),
    [
      ["DXE driver", "TcpDxe"],
      ["application", "Shell"],
      ["DXE driver", "SecureBootConfigDxe"],
      ["freeform", undefined],
    ],
  );
  deepEqual(ovmfVolumes(image), { pei: undefined, dxe, all: firmwareVolumes(image) });
});

const PEI = "6938079b-b503-4e3d-9d24-b28337a25806";
/** An image whose PEI volume holds `mov dword [rip + displacement], 0x608`; the store's address is given back too. */
function peiImage(displacement: number): { image: Uint8Array; pei: Uint8Array; next: number } {
  const code = concat(
    new Uint8Array(64),
    Uint8Array.of(0xc7, 0x05, 0, 0, 0, 0, 8, 6, 0, 0),
    new Uint8Array(64),
  );
  const pei = firmwareVolume(PEI, [ffsFile(0x04, 6, ffsSection(0x12, code))], 0x400);
  const at = pei.findIndex((byte, i) => byte === 0xc7 && pei[i + 1] === 0x05);
  new DataView(pei.buffer).setInt32(at + 2, displacement, true);
  const outer = firmwareVolume(DXE, [ffsFile(0x0b, 9, ffsLzma(lzma(ffsSection(0x17, pei))))], 0x4000);
  return { image: outer, pei, next: at + 10 };
}

test("the PEI volume is given as it is measured: with the timer's port in the PEI core's data", () => {
  const { image: whole, pei, next } = peiImage(16);
  const expected = pei.slice();
  expected.set([0x08, 0x06], next + 16);
  deepEqual(ovmfVolumes(whole).pei, expected);
});

test("a PEI volume that stores the port outside itself, or over something, cannot be told", () => {
  for (const displacement of [0x7fffffff, -0x80000000, -12]) {
    equal(ovmfVolumes(peiImage(displacement).image).pei, undefined);
  }
});

/** SmbiosPlatformDxe's constants as GCC lays them out: type 0, date, version, vendor; NOPs fill the gaps. */
function driver(...texts: string[]): Uint8Array {
  const filled = (bytes: Uint8Array) => {
    const padded = new Uint8Array(Math.ceil(bytes.length / 16) * 16);
    padded[padded.length - 2] = 0x40; // a NOP's end: with its zero, an "@" in front of the next text
    padded.set(bytes);
    return padded;
  };
  const constants = texts.map((text) => filled(utf16le(`${text}\0`)));
  return concat(noise(40), filled(firmwareInformation), ...constants, new Uint8Array(99));
}

test("vendor, version and date that a firmware was built with", () => {
  deepEqual(firmwareIdentity(driver("09/26/2026", "2026.08+ds-2", "Debian distribution of EDK II")), {
    vendor: "Debian distribution of EDK II",
    version: "2026.08+ds-2",
    releaseDate: "09/26/2026",
  });
});

const texts = ["09/26/2026", "2026.08", "EDK II"] as const;
for (const [name, volume] of [
  ["no volume", undefined],
  ["no type 0", noise(4000)],
  ["two of them", concat(driver(...texts), driver(...texts))],
  ["another order", driver(texts[2], texts[1], texts[0])],
  ["a text that is missing", driver(texts[0], texts[1])],
  ["a text of two characters", driver(texts[0], "2.", texts[2])],
  ["a text without end", driver(...texts).subarray(0, 40 + 32 + 32 + 16 + 12)],
] as const) {
  test(`a firmware's identity cannot be told: ${name}`, () => {
    equal(firmwareIdentity(volume), undefined);
  });
}

test("traits: shell, network and Secure Boot by the names of modules", () => {
  const traits = firmwareTraits(firmwareVolumes(image));
  deepEqual(traits, { shell: true, network: ["TcpDxe"], secureBoot: true, tpm: false, files: 5 });
});

for (const [name, bytes, code] of [
  ["a volume larger than the image", image.subarray(0, 0x3000), "volume/malformed"],
  [
    "a file larger than its volume",
    firmwareVolume(DXE, [ffsFile(0x07, 1).fill(0x7f, 20, 23)], 0x1000),
    "volume/malformed",
  ],
  [
    "a section larger than its file",
    firmwareVolume(DXE, [ffsFile(0x07, 1, ffsSection(0x10, noise(8)).fill(0x7f, 0, 3))], 0x1000),
    "volume/malformed",
  ],
] as const) {
  test(`refused: ${name}`, () => {
    throws(() => firmwareVolumes(bytes), { name: "MeasureError", code });
  });
}

test("truncated and overwritten volumes and streams are answered or refused", () => {
  const acceptsOrRefuses = (run: () => unknown) => {
    try {
      run();
    } catch (error) {
      ok(error instanceof MeasureError, String((error as Error).stack));
    }
  };
  const stream = lzma(noise(500));
  for (let length = 0; length < stream.length; length += 3) {
    acceptsOrRefuses(() => decompressLzma(stream.subarray(0, length), 1000));
  }
  for (let length = 0; length < image.length; length += 61) {
    acceptsOrRefuses(() => firmwareVolumes(image.subarray(0, length)));
  }
  const inputs = [
    [image, 0x1000, 0x1600, firmwareVolumes],
    [stream, 0, stream.length, (bytes: Uint8Array) => decompressLzma(bytes, 1000)],
    [dxe, 0, 0x400, firmwareVolumes],
  ] as const;
  const edit = fc.tuple(fc.nat(), fc.uint8Array({ minLength: 1, maxLength: 4 }));
  fc.assert(
    fc.property(
      fc.constantFrom(...inputs),
      fc.array(edit, { minLength: 1, maxLength: 4 }),
      (target, edits) => {
        const [input, from, to, run] = target;
        const bytes = input.slice();
        for (const [at, values] of edits) {
          const offset = from + (at % (to - from));
          bytes.set(values.subarray(0, bytes.length - offset), offset);
        }
        acceptsOrRefuses(() => run(bytes));
      },
    ),
    { numRuns: 400 },
  );
  equal(firmwareVolumes(image).length, 2);
});
