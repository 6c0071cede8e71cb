// SPDX-License-Identifier: Apache-2.0
/**
 * Inputs that tests generate instead of recording: firmware with TDX metadata, PE images, bzImages, GPT disks, event
 * logs, ACPI blobs. They exercise every path on machines that hold no vectors of others.
 */

import { concat } from "@caisson/vocabulary/bytes";
import { parseGuid } from "../bytes.ts";
import { type Section, type SectionType, sectionTypes } from "../formats/tdvf.ts";

const le = (size: 2 | 4 | 8, ...values: number[]): Uint8Array => {
  const bytes = new Uint8Array(size * values.length);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => {
    if (size === 2) view.setUint16(2 * i, value, true);
    else if (size === 4) view.setUint32(4 * i, value, true);
    else view.setBigUint64(8 * i, BigInt(value), true);
  });
  return bytes;
};
const u16 = (...values: number[]) => le(2, ...values);
const u32 = (...values: number[]) => le(4, ...values);
const u64 = (...values: number[]) => le(8, ...values);
const ascii = (text: string, size = text.length) => {
  const bytes = new Uint8Array(size);
  bytes.set(new TextEncoder().encode(text));
  return bytes;
};

/** Bytes that look random and are the same every time (xorshift32). */
export function noise(size: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(size);
  let state = seed;
  for (let i = 0; i < size; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state;
  }
  return bytes;
}

/** What a TDX build of edk2 has for memory that starts empty; builds differ in where the mailbox's TempMem lies. */
export function tdxSections(mailbox: readonly [address: number, size: number]): Section[] {
  const places = [
    ["TempMem", ...mailbox],
    ["TempMem", 0x80b000, 0x2000],
    ["TD_HOB", 0x809000, 0x2000],
    ["TempMem", 0x800000, 0x6000],
  ] as const;
  const content = { dataOffset: 0, rawSize: 0, extend: false, augment: false };
  return places.map(([type, address, memorySize]) => ({ type, address, memorySize, ...content }));
}

export interface SyntheticSection {
  type: SectionType;
  dataOffset: number;
  rawSize: number;
  address: number;
  memorySize: number;
  attributes: number;
}

/** The sections of OvmfPkgX64 2025.02 scaled down to an image of `size` bytes with a CFV of 16 KiB. */
export function ovmfSections(size: number): SyntheticSection[] {
  const base = 2 ** 32 - size;
  const cfv = 0x4000;
  const section = (
    type: SectionType,
    dataOffset: number,
    rawSize: number,
    address: number,
    memorySize: number,
    attributes: number,
  ) => ({ type, dataOffset, rawSize, address, memorySize, attributes });
  return [
    section("BFV", cfv, size - cfv, base + cfv, size - cfv, 1),
    section("CFV", 0, cfv, base, cfv, 0),
    section("TempMem", 0, 0, 0x811000, 0xf000, 0),
    section("TempMem", 0, 0, 0x80b000, 0x2000, 0),
    section("TD_HOB", 0, 0, 0x809000, 0x2000, 0),
    section("TempMem", 0, 0, 0x800000, 0x6000, 0),
  ];
}

/** A firmware image: noise, the given sections' descriptor, the GUID table at its end (or td-shim's pointer). */
export function firmware(
  size = 0x10000,
  sections = ovmfSections(size),
  form: "guid-table" | "td-shim" = "guid-table",
): Uint8Array {
  const image = noise(size);
  const descriptor = concat(
    parseGuid("e9eaf9f3-168e-44d5-a8eb-7f4d8738f6ae"),
    ascii("TDVF"),
    u32(16 + 32 * sections.length, 1, sections.length),
    ...sections.map((section) =>
      concat(
        u32(section.dataOffset, section.rawSize),
        u64(section.address, section.memorySize),
        u32(sectionTypes.indexOf(section.type), section.attributes),
      ),
    ),
  );
  const at = size - 0x800;
  image.set(descriptor, at);
  if (form === "td-shim") {
    image.set(u32(at + 16), size - 0x20);
  } else {
    const entry = concat(u32(size - at - 16), u16(22), parseGuid("e47a6535-984a-4798-865e-4685a7bf8ec2"));
    const other = concat(noise(8, 9), u16(26), parseGuid("00f771de-1a7e-4fcb-890e-68c77e2fb44e"));
    const table = concat(
      entry,
      other,
      u16(18 + entry.length + other.length),
      parseGuid("96b582de-1fb2-45f7-baea-a366c55a082d"),
    );
    image.set(table, size - 32 - table.length);
  }
  return image;
}

export interface SyntheticPe {
  sections?: readonly (readonly [name: string, content: Uint8Array])[];
  trailing?: Uint8Array;
  certificate?: Uint8Array;
}

/** A PE32+ image with 512-byte alignment; certificates go behind everything, as signing tools put them. */
export function pe({
  sections = [[".text", noise(700)]],
  trailing = new Uint8Array(),
  certificate = new Uint8Array(),
}: SyntheticPe = {}): Uint8Array {
  const align = (n: number) => Math.ceil(n / 512) * 512;
  const headersSize = align(0x40 + 24 + 240 + 40 * sections.length);
  let at = headersSize;
  const table: Uint8Array[] = [];
  const bodies: Uint8Array[] = [];
  for (const [name, content] of sections) {
    const raw = align(content.length);
    table.push(concat(ascii(name, 8), u32(content.length, at, raw, at, 0, 0), u16(0, 0), u32(0x60000020)));
    const body = new Uint8Array(raw);
    body.set(content);
    bodies.push(body);
    at += raw;
  }
  const certificateAt = certificate.length === 0 ? 0 : at + trailing.length;
  const optional = new Uint8Array(240);
  optional.set(u16(0x20b));
  optional.set(u32(0x1000), 32);
  optional.set(u32(512), 36);
  optional.set(u32(at, headersSize, 0x12345678), 56);
  optional.set(u16(10), 68);
  optional.set(u32(16), 108);
  optional.set(u32(certificateAt, certificate.length), 112 + 8 * 4);
  const header = concat(
    ascii("MZ", 0x3c),
    u32(0x40),
    u32(0x4550),
    u16(0x8664, sections.length),
    u32(0, 0, 0),
    u16(240, 0x22),
    optional,
    ...table,
  );
  const padded = new Uint8Array(headersSize);
  padded.set(header);
  return concat(padded, ...bodies, trailing, certificate);
}

/** A PE that also carries a bzImage setup header (its sections begin behind it). */
export function kernel(size = 0x4000, xloadflags = 0x03): Uint8Array {
  const image = pe({ sections: [[".text", noise(size)]] });
  const padded = concat(image.subarray(0, 512), new Uint8Array(512), image.subarray(512));
  const view = new DataView(padded.buffer);
  // Headers now reach to 1024; the section follows there.
  view.setUint32(0x40 + 24 + 60, 1024, true);
  view.setUint32(0x40 + 24 + 240 + 20, 1024, true);
  padded.set(ascii("HdrS"), 0x202);
  view.setUint16(0x206, 0x20f, true);
  view.setUint8(0x211, 1);
  view.setUint32(0x22c, 0x7fffffff, true);
  view.setUint16(0x236, xloadflags, true);
  return padded;
}

/** The first sectors of a disk with a GPT: `partitions` are entries of 128 bytes, placed with one unused slot between. */
export function gptDisk(partitions: readonly Uint8Array[], sectorSize: 512 | 4096 = 512): Uint8Array {
  const disk = new Uint8Array(34 * sectorSize);
  const header = concat(
    ascii("EFI PART"),
    u32(0x10000, 92, 0xabcdef, 0),
    u64(1, 1000, 34, 900),
    noise(16, 3),
    u64(2),
    u32(128, 128, 0x777),
  );
  disk.set(header, sectorSize);
  partitions.forEach((entry, i) => {
    disk.set(entry, 2 * sectorSize + 256 * i);
  });
  return disk;
}

export interface SyntheticEvent {
  index: number;
  type: number;
  digests: readonly (readonly [algorithm: number, digest: Uint8Array])[];
  data: Uint8Array;
}

/** A binary event log with the given banks (algorithm id and size) and events. */
export function eventLog(
  banks: readonly (readonly [algorithm: number, size: number])[],
  events: readonly SyntheticEvent[],
): Uint8Array {
  const specId = concat(
    ascii("Spec ID Event03\0"),
    u32(0),
    Uint8Array.of(0, 2, 0, 2),
    u32(banks.length),
    ...banks.map(([algorithm, size]) => u16(algorithm, size)),
    Uint8Array.of(0),
  );
  return concat(
    u32(0, 3),
    new Uint8Array(20),
    u32(specId.length),
    specId,
    ...events.map(({ index, type, digests, data }) =>
      concat(
        u32(index, type, digests.length),
        ...digests.map(([algorithm, digest]) => concat(u16(algorithm), digest)),
        u32(data.length),
        data,
      ),
    ),
  );
}

/** An ACPI tables blob in QEMU's order; `tables` beside FACS, DSDT, FACP and RSDT are given by signature. */
export function acpiTables(others: readonly string[] = ["APIC", "MCFG", "WAET"], size = 0x2000): Uint8Array {
  const table = (signature: string, length: number, body = noise(length - 8, length)) =>
    concat(ascii(signature), u32(length), body);
  const all = [table("FACS", 64), table("DSDT", 500), table("FACP", 244)];
  for (const signature of others) all.push(table(signature, signature === "TPM2" ? 76 : 60));
  all.push(table("RSDT", 36 + 4 * (others.length + 1)));
  const blob = new Uint8Array(size);
  blob.set(concat(...all));
  return blob;
}

/** One SMBIOS structure: `fields` follow its header of type, length and handle. */
export function smbiosStructure(
  type: number,
  handle: number,
  fields: Uint8Array,
  strings: readonly string[] = [],
): Uint8Array {
  const texts = strings.length === 0 ? "\0\0" : `${strings.join("\0")}\0\0`;
  return concat(Uint8Array.of(type, fields.length + 4), u16(handle), fields, ascii(texts));
}

/** Tables as QEMU gives them: a system with serial number, a processor, `memory` in its array, an OEM structure, the end. */
export function syntheticSmbios({ memory = 8 }: { memory?: number } = {}): Uint8Array {
  const system = concat(Uint8Array.of(1, 2, 3, 4), noise(16, 5), Uint8Array.of(6, 5, 0));
  const processor = noise(0x30 - 4, 6);
  processor.set([3, 0, 0], 0x20 - 4);
  return concat(
    smbiosStructure(1, 0x100, system, ["QEMU", "q35", "pc-q35", "serial 17", "sku"]),
    smbiosStructure(4, 0x400, processor, ["CPU 0", "QEMU", "serial 4"]),
    smbiosStructure(16, 0x1000, u32(memory)),
    smbiosStructure(200, 0x2000, noise(9), ["of a vendor"]),
    smbiosStructure(127, 0x7f00, new Uint8Array()),
  );
}

/** A variable store volume with authenticated variables. */
export function variableStore(
  variables: readonly { name: string; guid: string; data: Uint8Array; state?: number }[],
  size = 0x4000,
): Uint8Array {
  const volume = new Uint8Array(size).fill(0xff);
  volume.set(new Uint8Array(16));
  volume.set(parseGuid("fff12b8d-7696-4c8b-a985-2747075b4f50"), 16);
  volume.set(concat(u64(size), ascii("_FVH"), u32(0x4feff), u16(72)), 32);
  volume.set(
    concat(parseGuid("aaf32c78-947b-439a-a180-2e144ec37792"), u32(size - 72), Uint8Array.of(0x5a, 0xfe)),
    72,
  );
  let at = 100;
  for (const { name, guid, data, state = 0x3f } of variables) {
    const nameBytes = u16(...Array.from(`${name}\0`, (character) => character.charCodeAt(0)));
    const header = concat(
      u16(0x55aa),
      Uint8Array.of(state, 0),
      u32(0x27),
      new Uint8Array(28),
      u32(nameBytes.length, data.length),
      parseGuid(guid),
    );
    volume.set(concat(header, nameBytes, data), at);
    at = (at + header.length + nameBytes.length + data.length + 3) & ~3;
  }
  return volume;
}

const u24 = (value: number) => Uint8Array.of(value, value >> 8, value >> 16);
const padded = (bytes: Uint8Array, to: number) =>
  concat(bytes, new Uint8Array((to - (bytes.length % to)) % to));

/** A section of a firmware file (PI 1.8, volume 3). */
export function ffsSection(type: number, body: Uint8Array): Uint8Array {
  return concat(u24(body.length + 4), Uint8Array.of(type), body);
}

/** A user interface section: the file's name. */
export const ffsName = (name: string): Uint8Array =>
  ffsSection(0x15, u16(...Array.from(`${name}\0`, (character) => character.charCodeAt(0))));

/** A GUID-defined section whose data is LZMA-compressed sections. */
export function ffsLzma(compressed: Uint8Array): Uint8Array {
  return ffsSection(0x02, concat(parseGuid("ee4e5898-3914-4259-9d6e-dc7bd79403cf"), u16(24, 1), compressed));
}

/** A file: its GUID is noise from `seed`. */
export function ffsFile(type: number, seed: number, ...sections: Uint8Array[]): Uint8Array {
  const body = concat(...sections.map((section) => padded(section, 4)));
  return concat(
    noise(16, seed),
    u16(0),
    Uint8Array.of(type, 0),
    u24(24 + body.length),
    Uint8Array.of(0xf8),
    body,
  );
}

/** A firmware volume of `size` bytes (a multiple of 8) with an extended header that carries its name. */
export function firmwareVolume(guid: string, files: readonly Uint8Array[], size: number): Uint8Array {
  const header = concat(
    new Uint8Array(16),
    parseGuid("8c8ce578-8a3d-4f1c-9935-896185c32dd3"),
    u64(size),
    ascii("_FVH"),
    u32(0x4feff),
    u16(72, 0, 72),
    Uint8Array.of(0, 2),
    u32(1, size, 0, 0),
  );
  const extension = padded(concat(parseGuid(guid), u32(20)), 8);
  const volume = new Uint8Array(size).fill(0xff);
  volume.set(concat(header, extension.subarray(0, 20)));
  let at = 96;
  for (const file of files) {
    volume.set(file, at);
    at = Math.ceil((at + file.length) / 8) * 8;
  }
  return volume;
}
