// SPDX-License-Identifier: Apache-2.0
/**
 * The GPT event: what edk2 measures of the boot disk's partition table into PCR 5 / RTMR1
 * (UEFI_GPT_DATA, PC Client Platform Firmware Profile 1.06, section 10.2.6): the header's 92 bytes, the number of used
 * entries, and those entries. Unused entries and everything else of the disk stay out.
 */

import { concat } from "@caisson/vocabulary/bytes";
import { Bytes } from "../bytes.ts";
import { MeasureError } from "../errors.ts";

const HEADER_SIZE = 92;
const ENTRY_SIZE = 128;
/** The UEFI minimum is 128 entries; some disks have 256. */
const MAX_ENTRIES = 1024;

/**
 * The event's payload, which is also what its digest covers, from the first sectors of a disk (sector size in bytes:
 * 512, or 4096). Throws MeasureError "gpt/truncated" or "gpt/malformed" with the offset.
 */
export function gptEvent(disk: Uint8Array, sectorSize: 512 | 4096 = 512): Uint8Array {
  const bytes = new Bytes(disk, "gpt");
  const at = sectorSize;
  const fail = (reason: string, offset: number): never => {
    throw new MeasureError("gpt/malformed", `GPT: ${reason}`, { offset });
  };
  const header = bytes.slice(at, HEADER_SIZE);
  if (new TextDecoder("latin1").decode(header.subarray(0, 8)) !== "EFI PART") fail("no signature", at);
  if (bytes.u32(at + 12) !== HEADER_SIZE) fail(`header of ${bytes.u32(at + 12)} bytes`, at + 12);
  const count = bytes.u32(at + 80);
  const entrySize = bytes.u32(at + 84);
  if (count > MAX_ENTRIES) fail(`${count} entries`, at + 80);
  if (entrySize !== ENTRY_SIZE) fail(`entries of ${entrySize} bytes`, at + 84);
  const start = bytes.u64(at + 72) * sectorSize;
  const used: Uint8Array[] = [];
  for (let i = 0; i < count; i++) {
    const entry = bytes.slice(start + i * ENTRY_SIZE, ENTRY_SIZE);
    if (entry.subarray(0, 16).some((byte) => byte !== 0)) used.push(entry);
  }
  const number = new Uint8Array(8);
  new DataView(number.buffer).setUint32(0, used.length, true);
  return concat(header, number, ...used);
}
