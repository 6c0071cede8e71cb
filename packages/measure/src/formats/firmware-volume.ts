// SPDX-License-Identifier: Apache-2.0
/**
 * What a firmware image consists of: volumes, the files in them, and the volumes inside compressed files
 * (UEFI Platform Initialization 1.8, volume 3: firmware volumes, FFS 2 and 3, sections).
 *
 * Invariants: every length is checked against its container; nesting, file count and decompressed bytes are bounded, so
 * that an image cannot make its inspection unbounded. Not imported by predictions: it carries a decompressor.
 */
import { Bytes } from "../bytes.ts";
import { MeasureError } from "../errors.ts";
import { decompressLzma } from "./lzma.ts";
import { type FirmwareIdentity, firmwareInformation } from "./smbios.ts";

/** A file of a volume. `name` is its user interface section's text, where it has one. */
export interface FirmwareFile {
  guid: string;
  type: string;
  size: number;
  name: string | undefined;
}

/** A volume. `depth` 0 lies in the image itself at `offset`; deeper ones lie inside a file of the volume before. */
export interface FirmwareVolume {
  depth: number;
  offset: number | undefined;
  size: number;
  /** The name of its extended header, or else the file system's GUID. */
  guid: string;
  compressed: boolean;
  files: readonly FirmwareFile[];
}

const LZMA = "ee4e5898-3914-4259-9d6e-dc7bd79403cf";
const SYSTEM_NV_DATA_FV = "fff12b8d-7696-4c8b-a985-2747075b4f50";
const SIGNATURE = 0x4856465f; // "_FVH"
const MAX_DEPTH = 8;
const MAX_FILES = 4096;
const MAX_DECOMPRESSED = 128 << 20;
const PAGE = 0x1000;

const fileTypes: Record<number, string> = {
  0x01: "raw",
  0x02: "freeform",
  0x03: "security core",
  0x04: "PEI core",
  0x05: "DXE core",
  0x06: "PEI module",
  0x07: "DXE driver",
  0x08: "PEI and DXE",
  0x09: "application",
  0x0a: "SMM driver",
  0x0b: "volume image",
  0x0d: "SMM core",
};
const PAD_FILE = 0xf0;

interface Walk {
  volumes: (FirmwareVolume & { content: Uint8Array })[];
  files: number;
  decompressed: number;
}

/**
 * All volumes of an image, outer before inner. Throws MeasureError "volume/malformed", "volume/truncated",
 * "volume/compression" or "volume/too-large".
 */
export function firmwareVolumes(image: Uint8Array): FirmwareVolume[] {
  return ovmfVolumes(image).all;
}

/**
 * The volumes that lie compressed in OVMF, as its PEI phase measures them into PCR 0, and `all` of the image's, outer
 * before inner. Undefined where the image has none of that name, or where what happens to the PEI volume before cannot be
 * told. Throws as `firmwareVolumes`.
 */
export function ovmfVolumes(image: Uint8Array): {
  pei: Uint8Array | undefined;
  dxe: Uint8Array | undefined;
  all: FirmwareVolume[];
} {
  const { volumes } = walkImage(image);
  const all = volumes.map(({ content: _, ...volume }) => volume);
  const named = (name: string) =>
    volumes.find(({ guid, compressed }) => compressed && guid === name)?.content;
  const pei = named("6938079b-b503-4e3d-9d24-b28337a25806");
  return { pei: pei && afterTimerStart(pei), dxe: named("7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1"), all };
}

/** Port of the ACPI PM timer on q35: the PM base that OVMF programs, and 8. */
const TIMER_PORT = 0x608;

/**
 * The PEI volume runs in place, and up to edk2 202502 its first module (the PEI core) has stored the timer's port into
 * its own data when the volume is measured (OvmfPkg/Library/AcpiTimerLib): `mov dword [rip + disp32], 0x608`. Found by
 * comparing a guest's memory with the image: these were the only bytes that differed. A 32-bit PEI phase addresses
 * absolutely; there the target lies outside and the answer is undefined.
 */
function afterTimerStart(volume: Uint8Array): Uint8Array | undefined {
  const bytes = new Bytes(volume, "volume");
  for (let at = 0; at + 10 <= volume.length; at++) {
    if (volume[at] !== 0xc7 || volume[at + 1] !== 0x05 || bytes.u32(at + 6) !== TIMER_PORT) continue;
    const target = at + 10 + (bytes.u32(at + 2) | 0);
    if (target < 0 || target + 4 > volume.length || bytes.u32(target) !== 0) return undefined;
    const measured = volume.slice();
    new DataView(measured.buffer).setUint32(target, TIMER_PORT, true);
    return measured;
  }
  return volume;
}

/** How far behind its type 0 the driver's strings may lie, and on which boundaries (GCC aligns arrays of 16 bytes so). */
const IDENTITY_REACH = 1024;
const IDENTITY_ALIGNMENT = 16;

/**
 * Vendor, version and release date that OVMF was built with, from the DXE volume (`ovmfVolumes`): SmbiosPlatformDxe keeps
 * its type 0 and behind it date, version and vendor as UTF-16 constants. Undefined where there is not exactly one such
 * place, or something else lies there.
 */
export function firmwareIdentity(dxe: Uint8Array | undefined): FirmwareIdentity | undefined {
  if (dxe === undefined) return undefined;
  const places = occurrences(dxe, firmwareInformation);
  if (places.length !== 1) return undefined;
  const start = places[0]! + Math.ceil(firmwareInformation.length / IDENTITY_ALIGNMENT) * IDENTITY_ALIGNMENT;
  const end = Math.min(places[0]! + IDENTITY_REACH, dxe.length);
  const texts: string[] = [];
  for (let at = start; at < end && texts.length < 3; at += IDENTITY_ALIGNMENT) {
    const text = /^[\x20-\x7e]{3,}(?=\0)/.exec(
      new TextDecoder("utf-16le").decode(dxe.subarray(at, end)),
    )?.[0];
    if (text === undefined) continue;
    texts.push(text);
    at += Math.floor((2 * text.length) / IDENTITY_ALIGNMENT) * IDENTITY_ALIGNMENT;
  }
  const [releaseDate, version, vendor] = texts;
  if (vendor === undefined || !/^\d\d\/\d\d\/\d{4}$/.test(releaseDate!)) return undefined;
  return { vendor, version: version!, releaseDate: releaseDate! };
}

function occurrences(bytes: Uint8Array, wanted: Uint8Array): number[] {
  // Its rarest byte is looked for: volumes are full of zeros.
  const rare = wanted.findIndex((byte) => byte === 0x1c);
  const found: number[] = [];
  for (let at = bytes.indexOf(0x1c); at >= 0; at = bytes.indexOf(0x1c, at + 1)) {
    if (wanted.every((byte, i) => bytes[at - rare + i] === byte)) found.push(at - rare);
  }
  return found;
}

function walkImage(image: Uint8Array): Walk {
  const walk: Walk = { volumes: [], files: 0, decompressed: 0 };
  const bytes = new Bytes(image, "volume");
  let at = 0;
  while (at + 56 <= image.length) {
    if (bytes.u32(at + 40) === SIGNATURE) {
      const size = volumeSize(bytes, at, image.length - at);
      walkVolume(image.subarray(at, at + size), walk, { depth: 0, offset: at, compressed: false });
      at += Math.max(PAGE, Math.floor(size / PAGE) * PAGE);
    } else at += PAGE;
  }
  return walk;
}

function volumeSize(bytes: Bytes, at: number, available: number): number {
  const size = bytes.u64(at + 32);
  if (size < 56 || size > available) {
    throw new MeasureError("volume/malformed", `a volume of ${size} bytes where ${available} are left`, {
      offset: at + 32,
    });
  }
  return size;
}

interface Place {
  depth: number;
  offset: number | undefined;
  compressed: boolean;
}

function walkVolume(content: Uint8Array, walk: Walk, place: Place): void {
  if (place.depth > MAX_DEPTH) throw new MeasureError("volume/too-large", "volumes nested too deeply");
  const bytes = new Bytes(content, "volume");
  const fileSystem = bytes.guid(16);
  const headerSize = bytes.u16(48);
  const extension = bytes.u16(52);
  const files: FirmwareFile[] = [];
  const guid = extension === 0 ? fileSystem : bytes.guid(extension);
  walk.volumes.push({ ...place, size: content.length, guid, files, content });
  if (fileSystem === SYSTEM_NV_DATA_FV) return; // variables, not files

  let at = extension === 0 ? headerSize : extension + bytes.u32(extension + 16);
  for (at = align(at, 8); at + 24 <= content.length; at = align(at, 8)) {
    const header = bytes.slice(at, 24);
    if (header.every((byte) => byte === 0xff)) break; // free space to the end
    const large = (bytes.u8(at + 19) & 1) !== 0;
    const headerLength = large ? 32 : 24;
    const size = large ? bytes.u64(at + 24) : bytes.u32(at + 20) & 0xffffff;
    if (size < headerLength || at + size > content.length) {
      throw new MeasureError("volume/malformed", `a file of ${size} bytes in a volume of ${content.length}`, {
        offset: at + 20,
      });
    }
    if (++walk.files > MAX_FILES) throw new MeasureError("volume/too-large", `more than ${MAX_FILES} files`);
    const type = bytes.u8(at + 18);
    if (type !== PAD_FILE) {
      const file: FirmwareFile = {
        guid: bytes.guid(at),
        type: fileTypes[type] ?? `type 0x${type.toString(16)}`,
        size,
        name: undefined,
      };
      files.push(file);
      // Raw files have no sections.
      if (type !== 0x01) walkSections(content.subarray(at + headerLength, at + size), walk, place, file);
    }
    at += size;
  }
}

function walkSections(content: Uint8Array, walk: Walk, place: Place, file: FirmwareFile, depth = 0): void {
  if (depth > MAX_DEPTH) throw new MeasureError("volume/too-large", "sections nested too deeply");
  const bytes = new Bytes(content, "volume");
  for (let at = 0; at + 4 <= content.length; at = align(at, 4)) {
    let size = bytes.u32(at) & 0xffffff;
    let headerLength = 4;
    if (size === 0xffffff) {
      size = bytes.u32(at + 4);
      headerLength = 8;
    }
    if (size < headerLength || at + size > content.length) {
      throw new MeasureError("volume/malformed", `a section of ${size} bytes`, { offset: at });
    }
    const type = bytes.u8(at + 3);
    const body = content.subarray(at + headerLength, at + size);
    if (type === 0x15) file.name = new TextDecoder("utf-16le").decode(body).replace(/\0.*$/s, "");
    else if (type === 0x17) {
      walkVolume(body, walk, {
        depth: place.depth + 1,
        offset: undefined,
        compressed: place.compressed || depth > 0,
      });
    } else if (type === 0x02) {
      const dataOffset = bytes.u16(at + headerLength + 16);
      if (dataOffset < headerLength + 20 || dataOffset > size) {
        throw new MeasureError("volume/malformed", "a section's data lies outside it", { offset: at });
      }
      if (bytes.guid(at + headerLength) === LZMA) {
        const inner = decompressLzma(
          content.subarray(at + dataOffset, at + size),
          MAX_DECOMPRESSED - walk.decompressed,
        );
        walk.decompressed += inner.length;
        walkSections(inner, walk, place, file, depth + 1);
      }
    }
    at += size;
  }
}

const align = (value: number, to: number): number => Math.ceil(value / to) * to;

/** Answers to what one asks first of a firmware, from the names of its files. */
export interface FirmwareTraits {
  shell: boolean;
  /** Modules of the network stack. */
  network: readonly string[];
  secureBoot: boolean;
  tpm: boolean;
  files: number;
}

const networkModule =
  /^(?:Snp|Mnp|Arp|Ip[46]|Udp[46]|Tcp|Dhcp[46]|Mtftp[46]|Dns|Http|HttpBoot|Tls|UefiPxeBc|VirtioNet|IScsi)(?:Dxe)?$/;

/** Whether an image has a shell, a network stack, Secure Boot and TPM support. */
export function firmwareTraits(volumes: readonly FirmwareVolume[]): FirmwareTraits {
  const names = volumes.flatMap(({ files }) => files.map(({ name }) => name ?? ""));
  return {
    shell: names.some((name) => /^(?:Shell|TftpDynamicCommand)$/.test(name)),
    network: names.filter((name) => networkModule.test(name)).sort(),
    secureBoot: names.includes("SecureBootConfigDxe"),
    tpm: names.some((name) => /^(?:Tcg2Dxe|TdTcg2Dxe)$/.test(name)),
    files: names.length,
  };
}
