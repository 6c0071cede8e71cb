// SPDX-License-Identifier: Apache-2.0
/**
 * The TD HOB: the list of memory ranges that the VMM hands to the firmware, the first event of RTMR0
 * (EV_EFI_HANDOFF_TABLES2 "TdxTable"). Layout: UEFI Platform Initialization 1.8, volume 3, section 5;
 * what QEMU writes: hw/i386/tdvf-hob.c; what edk2 measures of it: everything but the final end HOB.
 */
import { MeasureError } from "../errors.ts";
import type { Section } from "./tdvf.ts";

/** Whose list: QEMU's, or Google Compute Engine's. */
export type HobStyle = "qemu" | "gce";

interface Range {
  start: number;
  length: number;
  type: number;
}

const ACCEPTED = 0; // EFI_RESOURCE_SYSTEM_MEMORY
const UNACCEPTED = 7; // EFI_RESOURCE_MEMORY_UNACCEPTED
const PRESENT_INITIALIZED_TESTED = 7;
const GCE_UNACCEPTED_ATTRIBUTES = 0x10000007;
const GIB = 2 ** 30;
const PHIT_SIZE = 56;
const RESOURCE_SIZE = 48;

/**
 * The measured bytes of the TD HOB of a guest with `memory` bytes under a firmware with these sections.
 * Throws MeasureError "firmware/memory" for a size that is not a whole number of pages or does not hold the sections,
 * "firmware/section" without a TD_HOB section.
 */
export function tdHob(sections: readonly Section[], memory: number, style: HobStyle = "qemu"): Uint8Array {
  const home = sections.find((section) => section.type === "TD_HOB");
  if (home === undefined) throw new MeasureError("firmware/section", "the firmware has no TD_HOB section");
  const ranges = style === "qemu" ? qemuRanges(sections, memory) : gceRanges(sections, memory);
  const bytes = new Uint8Array(PHIT_SIZE + RESOURCE_SIZE * ranges.length);
  const view = new DataView(bytes.buffer);

  // EFI_HOB_HANDOFF_INFO_TABLE; of its addresses only EfiEndOfHobList is set.
  view.setUint16(0, 1, true);
  view.setUint16(2, PHIT_SIZE, true);
  view.setUint32(8, 9, true);
  const end = home.address + bytes.length + (style === "qemu" ? 8 : 0);
  view.setBigUint64(48, BigInt(end), true);

  ranges.forEach(({ start, length, type }, i) => {
    const at = PHIT_SIZE + RESOURCE_SIZE * i;
    const gceUnaccepted = style === "gce" && type === UNACCEPTED;
    view.setUint16(at, 3, true);
    view.setUint16(at + 2, RESOURCE_SIZE, true);
    view.setUint32(at + 24, type, true);
    view.setUint32(at + 28, gceUnaccepted ? GCE_UNACCEPTED_ATTRIBUTES : PRESENT_INITIALIZED_TESTED, true);
    view.setBigUint64(at + 32, BigInt(start), true);
    view.setBigUint64(at + 40, BigInt(length), true);
  });
  return bytes;
}

/** q35 keeps RAM in one piece below 2.75 GiB; above, 2 GiB stay low and the rest moves to 4 GiB (pc_q35.c). */
function qemuRanges(sections: readonly Section[], memory: number): Range[] {
  const low = memory < 0xb0000000 ? memory : 0x80000000;
  const ranges = split(sections, low, memory);
  if (memory > low) ranges.push({ start: 4 * GIB, length: memory - low, type: UNACCEPTED });
  return ranges;
}

/**
 * GCE lists every section, volumes too, as accepted in metadata order, then the gaps of RAM, which splits at 3 GiB
 * (google/gce-tcb-verifier, ovmf/tdx_data.go).
 */
function gceRanges(sections: readonly Section[], memory: number): Range[] {
  const low = Math.min(memory, 3 * GIB);
  const ranges = split(sections, low, memory);
  if (memory > low) ranges.push({ start: 4 * GIB, length: memory - low, type: UNACCEPTED });
  const accepted = sections.map(({ address, memorySize }) => ({
    start: address,
    length: memorySize,
    type: ACCEPTED,
  }));
  return [...accepted, ...ranges.filter((range) => range.type === UNACCEPTED)];
}

const accepting = (sections: readonly Section[]) =>
  sections.filter(({ type }) => type === "TD_HOB" || type === "TempMem");

/** [0, low) in address order: what the sections accept, and the unaccepted gaps between. */
function split(sections: readonly Section[], low: number, memory: number): Range[] {
  const wrong = (reason: string): never => {
    throw new MeasureError("firmware/memory", `memory of ${memory} bytes: ${reason}`);
  };
  if (!Number.isSafeInteger(memory) || memory <= 0 || memory % 4096 !== 0)
    wrong("not a whole number of pages");
  const ranges: Range[] = [];
  let at = 0;
  for (const { address, memorySize } of accepting(sections).sort((a, b) => a.address - b.address)) {
    if (address < at) wrong("firmware sections overlap");
    if (address + memorySize > low) wrong("too small for the firmware's sections");
    if (address > at) ranges.push({ start: at, length: address - at, type: UNACCEPTED });
    ranges.push({ start: address, length: memorySize, type: ACCEPTED });
    at = address + memorySize;
  }
  if (at < low) ranges.push({ start: at, length: low - at, type: UNACCEPTED });
  return ranges;
}
