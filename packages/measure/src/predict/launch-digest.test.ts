// SPDX-License-Identifier: Apache-2.0
/** Launch digests: those that virtee/sev-snp-measure computes, a signed report's, and firmware that cannot be measured. */
import { deepEqual, equal, notEqual, rejects } from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { parseGuid } from "../bytes.ts";
import { MeasureError } from "../errors.ts";
import { cpuSignature, type LaunchInput, predictLaunch } from "./launch-digest.ts";

const vectors = new URL("../../../../../shared/vectors/sev-snp-measure/", import.meta.url);
const skip = existsSync(vectors) ? false : "../shared/vectors is absent";
const firmware = (name: "AmdSev" | "OvmfX64") =>
  new Uint8Array(readFileSync(new URL(`ovmf_${name}_suffix.bin`, vectors)));

const nothing = { kernel: new Uint8Array(0), initrd: undefined };
const empty = { ...nothing, commandLine: "" };
const kernel = { ...nothing, commandLine: "console=ttyS0 loglevel=7" };
type Case = Partial<Omit<LaunchInput, "firmware">> & { firmware?: "OvmfX64" };

// tests/test_guest.py, state in the folder's README: digest by input.
const expected: [digest: string, input: Case][] = [
  [
    "0ce9ccc06bab55eebe8abc234f3df6514883977a68a591b71052498ab52b2f1aa415db338033946ef93aa8278c0d67fb",
    { vmm: "ec2", sevFeatures: 0x21n, kernel: empty },
  ],
  [
    "0883bd0eeb716e65b7b977a321c278d1e51b33b5c655fab985443bbcc65c086b9c15e8a0bd8811050dec7e24964e5056",
    { vmm: "ec2", kernel: empty },
  ],
  [
    "5da7106cf14cf46b1725ebab123eb9e53bd46a1e9f400cd0c08e7827b04b688ea8b4e403c8404efed4397ea5d5d0722e",
    { vmm: "gce", kernel: empty },
  ],
  [
    "5c5debf100fc339f90276e761ee1f1658d08922c3b20e2a2e6c7a6c3370b2452a15a00eae11886a93d6fd1e7ab81e29d",
    { vmm: "gce", vcpus: 4, kernel: empty },
  ],
  [
    "803f691094946e42068aaa3a8f9e26a5c89f36f7b73ecfb28c653360fe4b3aba7e534442e7e1e17895dfe778d0228977",
    { sevFeatures: 0x21n, kernel },
  ],
  [
    "6d287813eb5222d770f75005c664e34c204f385ce832cc2ce7d0d6f354454362f390ef83a92046c042e706363b4b08fa",
    { kernel },
  ],
  [
    "e1e1ca029dd7973ab9513295be68198472dcd4fc834bd9af9b63f6e8a1674dbf281a9278a4a2ebe0eed9f22adbcd0e2b",
    { sevFeatures: 0x21n },
  ],
  ["19358ba9a7615534a9a1e2f0dfc29384dcd4dcb7062ff9c6013b26869a5fc6ecabe033c48dd6f6db5d6d76e7c5df632d", {}],
  [
    "4953b1fb416fa874980e8442b3706d345926d5f38879134e00813c5d7abcbe78eafe7b422907be0b4698e2414a631942",
    { vcpus: 4, sevFeatures: 0x21n, kernel: empty },
  ],
  [
    "5061fffb019493a903613d56d54b94912a1a2f9e4502385f5c194616753720a92441310ba6c4933de877c36e23046ad5",
    { vcpus: 4, kernel: empty },
  ],
  [
    "28797ae0afaba4005a81e629acebfb59e6687949d6be44007cd5506823b0dd66f146aaae26ff291eed7b493d8a64c385",
    { firmware: "OvmfX64", sevFeatures: 0x21n },
  ],
  [
    "da0296de8193586a5512078dcd719eccecbd87e2b825ad4148c44f665dc87df21e5b49e21523a9ad993afdb6a30b4005",
    { firmware: "OvmfX64" },
  ],
];
const defaults = { vmm: "qemu", vcpus: 1, cpuSignature: cpuSignature("EPYC-v4")!, sevFeatures: 1n } as const;
for (const [digest, { firmware: name = "AmdSev", ...input }] of expected) {
  test(`sev-snp-measure: ${digest.slice(0, 16)}`, { skip }, async () => {
    equal((await predictLaunch({ ...defaults, ...input, firmware: firmware(name) })).launchDigest, digest);
  });
}

test("a kernel with a firmware that has no place for its hash", { skip }, async () => {
  await rejects(predictLaunch({ ...defaults, firmware: firmware("OvmfX64"), kernel }), {
    code: "firmware/metadata",
  });
});

/** A firmware of one page: table of GUIDs, SEV metadata, a place for hashes. */
function synthetic(sections: [address: number, size: number, kind: number][], hashes = 0x810c00): Uint8Array {
  const image = new Uint8Array(0x2000);
  const view = new DataView(image.buffer);
  let end = image.length - 32;
  const entry = (guid: string, data: number[]) => {
    end -= 18 + 4 * data.length;
    for (const [i, value] of data.entries()) view.setUint32(end + 4 * i, value, true);
    view.setUint16(end + 4 * data.length, 18 + 4 * data.length, true);
    image.set(parseGuid(guid), end + 4 * data.length + 2);
  };
  const metadata = 0x1000;
  view.setUint32(metadata, 0x56455341, true);
  view.setUint32(metadata + 4, 16 + 12 * sections.length, true);
  view.setUint32(metadata + 8, 1, true);
  view.setUint32(metadata + 12, sections.length, true);
  for (const [i, section] of sections.entries()) {
    for (const [j, value] of section.entries()) view.setUint32(metadata + 16 + 12 * i + 4 * j, value, true);
  }
  entry("96b582de-1fb2-45f7-baea-a366c55a082d", []);
  entry("dc886566-984a-4798-a75e-5585a7bf67cc", [image.length - metadata]);
  entry("7255371f-3a3b-4b04-927b-1da6efa8d454", [hashes, 0x400]);
  entry("00f771de-1a7e-4fcb-890e-68c77e2fb44e", [0x80b004]);
  view.setUint16(image.length - 32 - 18, image.length - 32 - end, true);
  return image;
}
const usual: [number, number, number][] = [
  [0x800000, 0x2000, 1],
  [0x80d000, 0x1000, 2],
  [0x80e000, 0x1000, 3],
  [0x810000, 0x1000, 16],
];

test("everything that is said to count does, and the steps say what was measured", async () => {
  const base = { ...defaults, vcpus: 2, firmware: synthetic(usual), kernel };
  const { launchDigest, steps } = await predictLaunch(base);
  deepEqual(
    steps.map(({ what, pages }) => [what, pages]),
    [
      ["firmware", 2],
      ["memory", 2],
      ["secrets", 1],
      ["CPUID", 1],
      ["kernel hashes", 1],
      ["virtual processor 0", 1],
      ["virtual processor 1", 1],
    ],
  );
  equal(steps.at(-1)!.digest, launchDigest);
  const others: Partial<LaunchInput>[] = [
    { vmm: "ec2" },
    { vmm: "gce" },
    { vcpus: 3 },
    { cpuSignature: cpuSignature("EPYC-Genoa")! },
    { sevFeatures: 0x201n },
    { kernel: { ...kernel, commandLine: "console=ttyS0" } },
    { kernel: { ...kernel, kernel: Uint8Array.of(1) } },
    { kernel: { ...kernel, initrd: Uint8Array.of(1) } },
    { firmware: synthetic([...usual].reverse()) },
  ];
  const seen = new Set([launchDigest]);
  for (const change of others) {
    const changed = (await predictLaunch({ ...base, ...change })).launchDigest;
    notEqual(seen.has(changed), true, JSON.stringify(Object.keys(change)));
    seen.add(changed);
  }
});

for (const [name, code, image] of [
  ["no table", "firmware/no-metadata", new Uint8Array(0x1000)],
  ["no whole page", "firmware/too-large", new Uint8Array(0x1001)],
  ["a section of another kind", "firmware/metadata", synthetic([[0x800000, 0x1000, 5]])],
  ["a section that is not aligned", "firmware/metadata", synthetic([[0x800001, 0x1000, 1]])],
  ["an empty section", "firmware/metadata", synthetic([[0x800000, 0, 1]])],
  ["a section without bound", "firmware/metadata", synthetic([[0, 0xfffff000, 1]])],
  ["hashes outside of their page", "firmware/metadata", synthetic(usual, 0x811c00)],
  ["hashes across pages", "firmware/metadata", synthetic(usual, 0x810fa0)],
] as const) {
  test(`refused: ${name}`, async () => {
    await rejects(predictLaunch({ ...defaults, firmware: image, kernel }), { code });
  });
}

test("other inputs that cannot be", async () => {
  const base = { ...defaults, firmware: synthetic(usual) };
  for (const change of [
    { vcpus: 0 },
    { vcpus: 1025 },
    { vcpus: 1.5 },
    { kernel: { ...kernel, commandLine: "ü" } },
  ]) {
    await rejects(predictLaunch({ ...base, ...change }), { code: "prediction/input" });
  }
  equal(cpuSignature("Opteron"), undefined);
});

test("any change of a firmware is measured or refused", async () => {
  const image = synthetic(usual);
  const { launchDigest } = await predictLaunch({ ...defaults, firmware: image, kernel });
  await fc.assert(
    fc.asyncProperty(fc.nat(image.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
      const changed = image.map((byte, i) => (i === at ? byte ^ change : byte));
      try {
        notEqual(
          (await predictLaunch({ ...defaults, firmware: changed, kernel })).launchDigest,
          launchDigest,
        );
      } catch (error) {
        if (!(error instanceof MeasureError)) throw error;
      }
    }),
    { numRuns: 200 },
  );
});
