// SPDX-License-Identifier: Apache-2.0
/**
 * The SMBIOS tables as edk2 ≥ 202505 measures them: QEMU's structures in their order, the firmware's own type 0 behind
 * them where QEMU gives none, the end of the table; with what tells one machine of a model from another blanked.
 * (DMTF DSP0134; edk2: OvmfPkg/SmbiosPlatformDxe, MdeModulePkg/Universal/SmbiosDxe and SmbiosMeasurementDxe.)
 *
 * Invariants: structures are walked by bounded lengths up to type 127; the given bytes are not changed.
 */

import { concat } from "@caisson/vocabulary/bytes";
import { Bytes } from "../bytes.ts";
import { MeasureError } from "../errors.ts";

/** QEMU's structures in fw_cfg. */
export const SMBIOS_TABLES = "etc/smbios/smbios-tables";

/** What a firmware says of itself: its vendor, version and release date PCDs. */
export interface FirmwareIdentity {
  vendor: string;
  version: string;
  /** mm/dd/yyyy */
  releaseDate: string;
}

/** OVMF's type 0 without its handle and strings: virtual machine, UEFI, and three strings. */
export const firmwareInformation: Uint8Array = new Uint8Array([
  0, 26, 0, 0, 1, 2, 0x00, 0xe8, 3, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0x1c, 0, 0, 0xff, 0xff, 0, 0,
]);

const PROCESSOR = 4;
const END = 127;
const FIRST_OEM_TYPE = 128;
const HEADER_SIZE = 4;
/** The largest handle of SMBIOS 2.1 and newer, which edk2 gives to the end of the table. */
const MAX_HANDLE = 0xfeff;
/** What SMBIOS 2's entry point can describe; edk2 leaves out what lies beyond. */
const MAX_SIZE = 0xffff;

type Field = readonly [offset: number, size: number];
/** Fields that are blanked, by type: those that name a string (which becomes spaces), and others. */
const blanked: Readonly<Record<number, { texts?: readonly number[]; values?: readonly Field[] } | "all">> = {
  1: {
    texts: [0x07],
    values: [
      [0x08, 16],
      [0x18, 1],
    ],
  }, // serial number; UUID, wake-up type
  2: { texts: [0x07, 0x0a] }, // serial number, place in the chassis
  3: { texts: [0x07, 0x08] }, // serial number, asset tag
  4: {
    texts: [0x20, 0x21, 0x22], // serial number, asset tag, part number
    // voltage, current speed, counts of cores and threads
    values: [
      [0x11, 1],
      [0x16, 2],
      [0x23, 1],
      [0x24, 1],
      [0x25, 1],
      [0x2a, 2],
      [0x2c, 2],
      [0x2e, 2],
    ],
  },
  11: "all", // OEM strings
  15: "all", // system event log
  17: { texts: [0x18, 0x19, 0x1a] }, // serial number, asset tag, part number
  18: "all", // memory error
  22: {
    texts: [0x07],
    values: [
      [0x10, 2],
      [0x12, 2],
    ],
  }, // a battery's serial numbers and date
  23: { values: [[0x05, 2]] }, // reset count
  27: { values: [[0x0c, 2]] }, // a fan's speed
  31: "all", // boot integrity services
  33: "all", // memory error
  39: { texts: [0x08, 0x09, 0x0a] }, // a power supply's serial number, asset tag, part number
};

const malformed = (reason: string, offset: number): MeasureError =>
  new MeasureError("smbios/malformed", `SMBIOS tables: ${reason}`, { offset });

interface Structure {
  type: number;
  handle: number;
  offset: number;
  /** The formatted part, up to the strings. */
  length: number;
  /** With its strings and their end. */
  size: number;
  /** Where each string begins and ends, without NUL. */
  strings: readonly (readonly [from: number, to: number])[];
}

/** The structures before type 127. Throws MeasureError "smbios/malformed" or "smbios/truncated". */
function structures(tables: Uint8Array): Structure[] {
  if (tables.length > MAX_SIZE) throw malformed(`${tables.length} bytes`, 0);
  const bytes = new Bytes(tables, "smbios");
  const found: Structure[] = [];
  const handles = new Set<number>();
  for (let offset = 0; bytes.u8(offset) !== END; ) {
    const [type, length, handle] = [bytes.u8(offset), bytes.u8(offset + 1), bytes.u16(offset + 2)];
    if (length < HEADER_SIZE) throw malformed(`a structure of ${length} bytes`, offset + 1);
    if (handle > MAX_HANDLE || handles.has(handle)) throw malformed(`handle ${handle}`, offset + 2);
    handles.add(handle);
    const strings: [number, number][] = [];
    let at = offset + length;
    while (bytes.u16(at) !== 0) {
      if (bytes.u8(at) === 0) at++;
      const from = at;
      while (bytes.u8(at) !== 0) at++;
      strings.push([from, at]);
    }
    found.push({ type, handle, offset, length, size: at + 2 - offset, strings });
    offset = at + 2;
  }
  return found;
}

/**
 * What the firmware's SMBIOS event covers. `tables` is fw_cfg's file of the machine; `identity` is needed unless it has
 * a type 0. Throws MeasureError "smbios/malformed" or "smbios/truncated", and "prediction/input" for an identity that is
 * needed and missing, or is not an ASCII text of three characters or more.
 */
export function measuredSmbios(tables: Uint8Array, identity: FirmwareIdentity | undefined): Uint8Array {
  const given = structures(tables);
  const parts = given.map((structure) => blank(tables, structure));
  if (given.every(({ type }) => type !== 0))
    parts.push(typeZero(identity, new Set(given.map(({ handle }) => handle))));
  const measured = concat(
    ...parts,
    Uint8Array.of(END, HEADER_SIZE, MAX_HANDLE & 0xff, MAX_HANDLE >> 8, 0, 0),
  );
  if (measured.length > MAX_SIZE) throw malformed(`${measured.length} bytes with the firmware's own`, 0);
  return measured;
}

/** A copy of one structure without what identifies the machine. */
function blank(tables: Uint8Array, { type, offset, length, size, strings }: Structure): Uint8Array {
  const copy = tables.slice(offset, offset + size);
  const rule = type >= FIRST_OEM_TYPE ? "all" : blanked[type];
  if (rule === "all") return copy.fill(0, HEADER_SIZE);
  for (const field of rule?.texts ?? []) {
    if (field >= length) continue;
    // A number beyond the last string means the last one to edk2.
    const text = strings[Math.min(copy[field]!, strings.length) - 1];
    if (text !== undefined) copy.fill(0x20, text[0] - offset, text[1] - offset);
    copy[field] = 0;
  }
  for (const [field, bytes] of rule?.values ?? []) {
    if (field + bytes <= length) copy.fill(0, field, field + bytes);
  }
  return copy;
}

/** The firmware's own type 0, with the lowest handle that is free. */
function typeZero(identity: FirmwareIdentity | undefined, handles: ReadonlySet<number>): Uint8Array {
  const { vendor, version, releaseDate } = identity ?? { vendor: "", version: "", releaseDate: "" };
  const texts = [vendor, version, releaseDate];
  if (!texts.every((text) => /^[\x20-\x7e]{3,}$/.test(text))) {
    throw new MeasureError("prediction/input", "SMBIOS: the firmware's vendor, version and date are needed");
  }
  const bytes = concat(firmwareInformation, new TextEncoder().encode(`${texts.join("\0")}\0\0`));
  let handle = 0;
  while (handles.has(handle)) handle++;
  new DataView(bytes.buffer).setUint16(2, handle, true);
  return bytes;
}

/**
 * The tables of the same machine with another processor: `id` is what CPUID leaf 1 gives there, EAX and EDX in
 * little-endian order (8 bytes; `dmidecode -t 4` shows them as "ID"). Throws as `measuredSmbios` does, and
 * "prediction/input" for another number of bytes.
 */
export function withProcessor(tables: Uint8Array, id: Uint8Array): Uint8Array {
  if (id.length !== 8) throw new MeasureError("prediction/input", "a processor's ID has 8 bytes");
  const changed = tables.slice();
  for (const { type, offset, length } of structures(tables)) {
    if (type === PROCESSOR && length >= 16) changed.set(id, offset + 8);
  }
  return changed;
}
