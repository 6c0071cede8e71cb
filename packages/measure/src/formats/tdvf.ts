// SPDX-License-Identifier: Apache-2.0
/**
 * TDX metadata of a firmware image: where its sections lie in the file and in memory, and which of them are measured
 * (Intel TDX Virtual Firmware Design Guide 1.01, section 11; for td-shim its tdshim.md, "metadata").
 *
 * Invariants: every offset is checked against the file before use; sections are aligned, ordered as in the table, and
 * their measured size is bounded, so that a hostile table cannot make the measurement unbounded.
 */

import { equal } from "@caisson/vocabulary/bytes";
import { Bytes, parseGuid } from "../bytes.ts";
import { MeasureError } from "../errors.ts";
import { footerTable } from "./footer-table.ts";

/** Kinds of section (design guide, table 11-2; 5 to 7 of td-shim). The index is the value in the file. */
export const sectionTypes = [
  "BFV",
  "CFV",
  "TD_HOB",
  "TempMem",
  "PermMem",
  "Payload",
  "PayloadParam",
  "TdInfo",
] as const;
export type SectionType = (typeof sectionTypes)[number];

/** One section. Sizes and addresses in bytes. `extend`: contents measured; `augment`: accepted later, not added. */
export interface Section {
  type: SectionType;
  dataOffset: number;
  rawSize: number;
  address: number;
  memorySize: number;
  extend: boolean;
  augment: boolean;
}

/** The metadata of one image. `form` says how it was found; `offset` is that of the "TDVF" descriptor. */
export interface TdxMetadata {
  form: "guid-table" | "td-shim";
  offset: number;
  sections: readonly Section[];
}

const TDX_METADATA_OFFSET = "e47a6535-984a-4798-865e-4685a7bf8ec2";
const DESCRIPTOR_GUID = parseGuid("e9eaf9f3-168e-44d5-a8eb-7f4d8738f6ae");
const SIGNATURE = 0x46564454; // "TDVF"

const PAGE = 0x1000;
/** Real images have seven or so. */
const MAX_SECTIONS = 32;
/** Firmware images are 1 to 16 MiB; 64 MiB is the bound of what is hashed. */
export const MAX_FIRMWARE = 64 << 20;
/** Memory that sections may add or extend: real images stay below 32 MiB. */
const MAX_MEMORY = 256 << 20;

/**
 * Finds and checks the TDX metadata. Throws MeasureError "firmware/no-metadata" where the image has none,
 * "firmware/metadata" or "firmware/section" with the offset where it is malformed.
 */
export function parseTdxMetadata(firmware: Uint8Array): TdxMetadata {
  if (firmware.length > MAX_FIRMWARE) {
    throw new MeasureError(
      "firmware/too-large",
      `firmware of ${firmware.length} bytes; at most ${MAX_FIRMWARE}`,
    );
  }
  const image = new Bytes(firmware, "firmware");
  const { form, offset } = findDescriptor(image);
  return { form, offset, sections: parseDescriptor(image, offset) };
}

/** By the table of GUIDs at the image's end; without one, tries td-shim's fixed pointer. */
function findDescriptor(image: Bytes): { form: TdxMetadata["form"]; offset: number } {
  const table = footerTable(image);
  if (table !== undefined) {
    const entry = table.find(({ guid }) => guid === TDX_METADATA_OFFSET);
    if (entry !== undefined) {
      if (entry.size < 4) {
        throw new MeasureError("firmware/metadata", "the TDX entry holds no offset", {
          offset: entry.offset + entry.size,
        });
      }
      // The last four bytes of the data.
      return { form: "guid-table", offset: image.length - image.u32(entry.offset + entry.size - 4) };
    }
  } else if (image.length >= 0x20 + 16) {
    const offset = image.u32(image.length - 0x20);
    if (offset >= 16 && offset + 16 <= image.length && image.u32(offset) === SIGNATURE) {
      return { form: "td-shim", offset };
    }
  }
  throw new MeasureError("firmware/no-metadata", "the firmware has no TDX metadata", {
    fix: "use a firmware built for TDX: a whole image (OVMF.fd, OVMF.inteltdx.fd), not its CODE part alone",
  });
}

function parseDescriptor(image: Bytes, offset: number): Section[] {
  const fail = (reason: string, at: number): never => {
    throw new MeasureError("firmware/metadata", `TDX metadata: ${reason}`, { offset: at });
  };
  if (offset < 16 || offset + 16 > image.length)
    fail("the descriptor lies outside the image", Math.max(offset, 0));
  if (!equal(image.slice(offset - 16, 16), DESCRIPTOR_GUID)) fail("no descriptor GUID", offset - 16);
  if (image.u32(offset) !== SIGNATURE) fail("no TDVF signature", offset);
  const length = image.u32(offset + 4);
  const version = image.u32(offset + 8);
  const count = image.u32(offset + 12);
  if (version !== 1) fail(`version ${version}, expected 1`, offset + 8);
  if (count === 0 || count > MAX_SECTIONS)
    fail(`${count} sections; 1 to ${MAX_SECTIONS} possible`, offset + 12);
  if (length !== 16 + 32 * count) fail(`${length} bytes for ${count} sections`, offset + 4);
  const sections = Array.from({ length: count }, (_, i) => parseSection(image, offset + 16 + 32 * i));
  const total = sections.reduce((sum, section) => sum + (section.augment ? 0 : section.memorySize), 0);
  if (total > MAX_MEMORY) fail(`sections add ${total} bytes of memory; at most ${MAX_MEMORY}`, offset);
  const extended = sections.reduce((sum, section) => sum + (section.extend ? section.memorySize : 0), 0);
  if (extended > MAX_FIRMWARE) fail(`sections measure ${extended} bytes; at most ${MAX_FIRMWARE}`, offset);
  return sections;
}

function parseSection(image: Bytes, offset: number): Section {
  const fail = (reason: string, at: number): never => {
    throw new MeasureError("firmware/section", `TDX section: ${reason}`, { offset: offset + at });
  };
  const dataOffset = image.u32(offset);
  const rawSize = image.u32(offset + 4);
  const address = image.u64(offset + 8);
  const memorySize = image.u64(offset + 16);
  const typeValue = image.u32(offset + 24);
  const attributes = image.u32(offset + 28);
  const type = sectionTypes[typeValue];
  if (type === undefined) return fail(`unknown type ${typeValue}`, 24);
  if (attributes > 3) fail(`unknown attributes 0x${attributes.toString(16)}`, 28);
  const extend = (attributes & 1) !== 0;
  const augment = (attributes & 2) !== 0;
  if (dataOffset + rawSize > image.length) fail("data outside the image", 0);
  if (memorySize === Number.POSITIVE_INFINITY || !Number.isSafeInteger(address + memorySize)) {
    fail("memory range out of bounds", 8);
  }
  if (address % PAGE !== 0 || memorySize % PAGE !== 0) fail("memory range not page-aligned", 8);
  if (rawSize > memorySize && !(augment && memorySize === 0)) fail("more data than memory", 4);
  if ((type === "TD_HOB" || type === "TempMem") && rawSize !== 0) fail(`${type} with data`, 4);
  if (extend && augment) fail("measured and augmented at once", 28);
  return { type, dataOffset, rawSize, address, memorySize, extend, augment };
}
