// SPDX-License-Identifier: Apache-2.0
/**
 * The launch digest of an SEV-SNP guest (AMD 56860, SNP_LAUNCH_UPDATE, PAGE_INFO): a chain of SHA-384 over every page that is
 * put into the guest before it runs. Firmware first, then what the firmware's metadata names, then the register state of each
 * virtual processor, whose bytes each VMM makes in its own way.
 *
 * Which registers a VMM sets was taken from virtee/sev-snp-measure, and is compared with it in tests.
 */
import { digest, sha384 } from "#sha";
import { Bytes, parseGuid } from "../bytes.ts";
import { MeasureError } from "../errors.ts";
import { type FooterEntry, footerTable } from "../formats/footer-table.ts";
import { MAX_FIRMWARE } from "../formats/tdvf.ts";

export const vmms = ["qemu", "ec2", "gce"] as const;
export type Vmm = (typeof vmms)[number];

/** Models of QEMU (`-cpu`) by name: what CPUID leaf 1 says of family, model and stepping. */
export const cpuModels: Readonly<Record<string, readonly [family: number, model: number, stepping: number]>> =
  {
    EPYC: [0x17, 0x01, 2],
    "EPYC-Rome": [0x17, 0x31, 0],
    "EPYC-Milan": [0x19, 0x01, 1],
    "EPYC-Genoa": [0x19, 0x11, 0],
    "EPYC-Turin": [0x1a, 0x00, 0],
  };

/** CPUID leaf 1 EAX of a model, its version (`EPYC-v4`) left aside; undefined for a name that is not known. */
export function cpuSignature(name: string): number | undefined {
  const model = cpuModels[name.replace(/-v\d+$/, "")];
  if (model === undefined) return undefined;
  const [family, number, stepping] = model;
  const base = Math.min(family, 0xf);
  return ((family - base) << 20) | ((number >> 4) << 16) | (base << 8) | ((number & 0xf) << 4) | stepping;
}

/** What a launch depends on. Not on memory, devices or ACPI. */
export interface LaunchInput {
  /** The whole image, as it ends at 4 GiB. */
  firmware: Uint8Array;
  vmm: Vmm;
  vcpus: number;
  /** CPUID leaf 1 EAX of the guest's processor (`cpuSignature`); QEMU's alone depends on it. */
  cpuSignature: number;
  /** SEV_FEATURES of each processor: 1 is SNP alone; bit 5 DebugSwap, bit 9 secure TSC. */
  sevFeatures: bigint;
  /** What QEMU hashes into the firmware's page (`kernel-hashes=on`); without, the firmware alone is measured. */
  kernel?: { kernel: Uint8Array; initrd: Uint8Array | undefined; commandLine: string };
}

/** Pages of one kind, in the order in which they are measured. `digest`: the chain's value after them, hexadecimal. */
export interface LaunchStep {
  what: string;
  address: number;
  pages: number;
  digest: string;
}

export interface LaunchPrediction {
  launchDigest: string;
  steps: LaunchStep[];
}

const PAGE = 0x1000;
const MAX_VCPUS = 1024;
const VMSA_ADDRESS = 0xfffffffff000;
const types = { normal: 1, vmsa: 2, zero: 3, unmeasured: 4, secrets: 5, cpuid: 6 } as const;
type PageType = keyof typeof types;

const SEV_METADATA = "dc886566-984a-4798-a75e-5585a7bf67cc";
const HASH_TABLE = "7255371f-3a3b-4b04-927b-1da6efa8d454";
const RESET_BLOCK = "00f771de-1a7e-4fcb-890e-68c77e2fb44e";

/** Kinds of a metadata section, by number. */
const sectionKinds: Readonly<Record<number, string>> = {
  1: "memory",
  2: "secrets",
  3: "CPUID",
  4: "SVSM calling area",
  16: "kernel hashes",
};
const MAX_SECTIONS = 64;
const MAX_MEMORY = 256 << 20;

interface SevSection {
  kind: string;
  address: number;
  pages: number;
}

/** Predicts the launch digest. Throws MeasureError "firmware/…" or "prediction/input". */
export async function predictLaunch(input: LaunchInput): Promise<LaunchPrediction> {
  const { firmware, vmm, vcpus, kernel } = input;
  if (firmware.length > MAX_FIRMWARE || firmware.length % PAGE !== 0 || firmware.length === 0) {
    throw new MeasureError("firmware/too-large", `firmware of ${firmware.length} bytes`, {
      fix: `a whole image: pages of 4096 bytes, at most ${MAX_FIRMWARE}`,
    });
  }
  if (!Number.isInteger(vcpus) || vcpus < 1 || vcpus > MAX_VCPUS) {
    throw new MeasureError("prediction/input", `${vcpus} virtual processors; 1 to ${MAX_VCPUS} possible`);
  }
  const image = new Bytes(firmware, "firmware");
  const table = footerTable(image);
  if (table === undefined) noMetadata("no table of GUIDs at its end");
  const sections = readSections(image, table);
  const hashes = kernel && { page: await hashPage(image, table, sections, kernel) };

  const chain = new Chain();
  await chain.addBytes("firmware", firmware, 0x1_0000_0000 - firmware.length);
  // EC2 puts the CPUID pages behind all others.
  const late = (section: SevSection) => vmm === "ec2" && section.kind === "CPUID";
  for (const section of [...sections.filter((one) => !late(one)), ...sections.filter(late)]) {
    if (section.kind === "kernel hashes" && hashes !== undefined) {
      await chain.addBytes("kernel hashes", hashes.page, section.address);
    } else await chain.addEmpty(section, pageType(section.kind, vmm));
  }
  const reset = resetAddress(image, table);
  await chain.add("virtual processor 0", VMSA_ADDRESS, [await sha384(vmsa(0xfffffff0, input))], "vmsa");
  if (vcpus > 1) {
    if (reset === undefined) noMetadata("no reset address for further processors");
    const others = await sha384(vmsa(reset, input));
    const what = vcpus === 2 ? "virtual processor 1" : `virtual processors 1 to ${vcpus - 1}`;
    await chain.add(what, VMSA_ADDRESS, Array<Uint8Array>(vcpus - 1).fill(others), "vmsa", 0);
  }
  return { launchDigest: chain.value.toHex(), steps: chain.steps };
}

function noMetadata(what: string): never {
  throw new MeasureError("firmware/no-metadata", `this firmware is not made for SEV-SNP: ${what}`, {
    fix: "use a whole image that is: OVMF.amdsev.fd, or OVMF.fd of a recent edk2",
  });
}

const pageType = (kind: string, vmm: Vmm): PageType => {
  if (kind === "memory") return vmm === "gce" ? "unmeasured" : "zero";
  if (kind === "secrets") return "secrets";
  return kind === "CPUID" ? "cpuid" : "zero";
};

/** The chain, one PAGE_INFO of 112 bytes for each page. */
class Chain {
  value: Uint8Array = new Uint8Array(48);
  readonly steps: LaunchStep[] = [];

  async addBytes(what: string, bytes: Uint8Array, address: number): Promise<void> {
    const contents: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += PAGE)
      contents.push(await sha384(bytes.subarray(at, at + PAGE)));
    await this.add(what, address, contents, "normal");
  }

  async addEmpty({ kind, address, pages }: SevSection, type: PageType): Promise<void> {
    await this.add(kind, address, Array<Uint8Array>(pages).fill(new Uint8Array(48)), type);
  }

  async add(
    what: string,
    address: number,
    contents: readonly Uint8Array[],
    type: PageType,
    stride: number = PAGE,
  ): Promise<void> {
    for (const [i, content] of contents.entries()) {
      const info = new Uint8Array(0x70);
      info.set(this.value, 0);
      info.set(content, 48);
      const view = new DataView(info.buffer);
      view.setUint16(96, 0x70, true);
      view.setUint8(98, types[type]);
      // Offset 99 to 103: not an initial migration image, no permissions for lower privilege levels.
      view.setBigUint64(104, BigInt(address + i * stride), true);
      this.value = await sha384(info);
    }
    this.steps.push({ what, address, pages: contents.length, digest: this.value.toHex() });
  }
}

const entryData = (image: Bytes, table: readonly FooterEntry[], guid: string): Bytes | undefined => {
  const entry = table.find((one) => one.guid === guid);
  return entry && new Bytes(image.slice(entry.offset, entry.size), "firmware");
};

/** SEV metadata: a header "ASEV" and sections of address, size and kind, in the order in which they are measured. */
function readSections(image: Bytes, table: readonly FooterEntry[]): SevSection[] {
  const pointer = entryData(image, table, SEV_METADATA);
  if (pointer === undefined) noMetadata("no SEV metadata");
  const start = image.length - pointer.u32(0);
  const fail = (reason: string, offset: number): never => {
    throw new MeasureError("firmware/metadata", `SEV metadata: ${reason}`, { offset });
  };
  if (start < 0 || start + 16 > image.length) fail("it lies outside the image", Math.max(start, 0));
  const count = image.u32(start + 12);
  if (image.u32(start) !== 0x56455341) fail("no ASEV signature", start);
  if (image.u32(start + 8) !== 1) fail(`version ${image.u32(start + 8)}, expected 1`, start + 8);
  if (count > MAX_SECTIONS || image.u32(start + 4) < 16 + 12 * count) fail(`${count} sections`, start + 12);
  let total = 0;
  return Array.from({ length: count }, (_, i) => {
    const at = start + 16 + 12 * i;
    const [address, size, number] = [image.u32(at), image.u32(at + 4), image.u32(at + 8)];
    const kind = sectionKinds[number] ?? fail(`a section of kind ${number}`, at + 8);
    total += size;
    if (address % PAGE !== 0 || size % PAGE !== 0 || size === 0 || total > MAX_MEMORY) {
      fail(`a section of ${size} bytes at 0x${address.toString(16)}`, at);
    }
    return { kind, address, pages: size / PAGE };
  });
}

/** Where processors but the first begin. */
function resetAddress(image: Bytes, table: readonly FooterEntry[]): number | undefined {
  return entryData(image, table, RESET_BLOCK)?.u32(0);
}

const hashTable = parseGuid("9438d606-4f22-4cc9-b479-a793d411fd21");
const hashEntries = {
  commandLine: parseGuid("97d02dd8-bd20-4c94-aa78-e7714d36ab2a"),
  initrd: parseGuid("44baf731-3a2f-4bd7-9af1-41e29169781d"),
  kernel: parseGuid("4de79437-abd2-427f-b835-d5b172d2045b"),
};
const HASH_ENTRY = 50;
const HASH_TABLE_SIZE = 16 + 2 + 3 * HASH_ENTRY;

/** The page into which QEMU writes the hashes of kernel, initrd and command line (QEMU, target/i386/sev.c). */
async function hashPage(
  image: Bytes,
  table: readonly FooterEntry[],
  sections: readonly SevSection[],
  { kernel, initrd, commandLine }: NonNullable<LaunchInput["kernel"]>,
): Promise<Uint8Array> {
  const place = entryData(image, table, HASH_TABLE)?.u32(0);
  const section = sections.find(({ kind }) => kind === "kernel hashes");
  if (place === undefined || place === 0 || section === undefined) {
    throw new MeasureError("firmware/metadata", "this firmware has no place for the hashes of a kernel", {
      fix: "QEMU refuses kernel-hashes=on with it; use an AmdSev build (OVMF.amdsev.fd), or leave the kernel out",
    });
  }
  const page = new Uint8Array(PAGE);
  const offset = place & (PAGE - 1);
  // Padded to 16 bytes.
  if (offset + 176 > PAGE || place - offset !== section.address) {
    throw new MeasureError(
      "firmware/metadata",
      `the table of hashes at 0x${place.toString(16)} is not in its page`,
    );
  }
  if (/[^ -~]/.test(commandLine)) {
    throw new MeasureError("prediction/input", "the command line is not printable ASCII");
  }
  const view = new DataView(page.buffer);
  page.set(hashTable, offset);
  view.setUint16(offset + 16, HASH_TABLE_SIZE, true);
  const contents: [Uint8Array, Uint8Array][] = [
    [hashEntries.commandLine, new TextEncoder().encode(`${commandLine}\0`)],
    [hashEntries.initrd, initrd ?? new Uint8Array(0)],
    [hashEntries.kernel, kernel],
  ];
  for (const [i, [guid, bytes]] of contents.entries()) {
    const at = offset + 18 + i * HASH_ENTRY;
    page.set(guid, at);
    view.setUint16(at + 16, HASH_ENTRY, true);
    page.set(await digest("sha256", bytes), at + 18);
  }
  return page;
}

/** What each VMM writes otherwise. */
const vmmRegisters = {
  qemu: { cs: 0x9b, ss: 0x93, tr: 0x8b, gPat: 0x0007040600070406n, mxcsr: 0x1f80, fcw: 0x37f },
  ec2: { cs: 0x9a, ss: 0x92, tr: 0x83, gPat: 0x0007040600070406n, mxcsr: 0, fcw: 0 },
  gce: { cs: 0x9b, ss: 0x93, tr: 0x8b, gPat: 0x00070106n, mxcsr: 0, fcw: 0 },
} as const;
/** RDX after reset, where a VMM does not put the processor's signature into it. */
const RDX_RESET = 0x600;

/** The register state of a processor that begins at `eip` (AMD APM volume 2, table B-4): one page. */
function vmsa(eip: number, { vmm, cpuSignature: signature, sevFeatures }: LaunchInput): Uint8Array {
  const page = new Uint8Array(PAGE);
  const view = new DataView(page.buffer);
  const own = vmmRegisters[vmm];
  // The first processor's code segment differs on EC2 alone.
  const bsp = eip === 0xfffffff0;
  const segment = (at: number, selector: number, attributes: number, limit: number, base: number) => {
    view.setUint16(at, selector, true);
    view.setUint16(at + 2, attributes, true);
    view.setUint32(at + 4, limit, true);
    view.setBigUint64(at + 8, BigInt(base), true);
  };
  const codeAttributes = vmm === "ec2" && !bsp ? 0x9b : own.cs;
  segment(0x00, 0, 0x93, 0xffff, 0);
  segment(0x10, 0xf000, codeAttributes, 0xffff, (eip & 0xffff0000) >>> 0);
  segment(0x20, 0, own.ss, 0xffff, 0);
  for (const at of [0x30, 0x40, 0x50]) segment(at, 0, 0x93, 0xffff, 0);
  segment(0x60, 0, 0, 0xffff, 0);
  segment(0x70, 0, 0x82, 0xffff, 0);
  segment(0x80, 0, 0, 0xffff, 0);
  segment(0x90, 0, own.tr, 0xffff, 0);
  const values: [offset: number, value: bigint][] = [
    [0xd0, 0x1000n], // EFER
    [0x148, 0x40n], // CR4
    [0x158, 0x10n], // CR0
    [0x160, 0x400n], // DR7
    [0x168, 0xffff0ff0n], // DR6
    [0x170, 2n], // RFLAGS
    [0x178, BigInt(eip & 0xffff)], // RIP
    [0x268, own.gPat],
    [0x310, BigInt(vmm === "qemu" ? signature : RDX_RESET)], // RDX
    [0x3b0, sevFeatures],
    [0x3e8, 1n], // XCR0
  ];
  for (const [offset, value] of values) view.setBigUint64(offset, value, true);
  view.setUint32(0x408, own.mxcsr, true);
  view.setUint16(0x410, own.fcw, true);
  return page;
}
