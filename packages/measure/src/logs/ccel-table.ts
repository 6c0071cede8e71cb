// SPDX-License-Identifier: Apache-2.0
/** The CCEL ACPI table (UEFI 2.11, section 38.4), which says where a confidential guest's log lies. */
import { Bytes } from "../bytes.ts";
import { MeasureError } from "../errors.ts";

/**
 * Which confidential platform (1 SEV, 2 TDX), and where and how large its log is.
 * Throws MeasureError "log/malformed" unless it is a well-formed table of 56 bytes.
 */
export function parseCcelTable(table: Uint8Array): { type: number; logLength: number; logAddress: number } {
  const bytes = new Bytes(table, "log");
  if (
    String.fromCharCode(...bytes.slice(0, 4)) !== "CCEL" ||
    bytes.u32(4) !== table.length ||
    table.length < 56
  ) {
    throw new MeasureError("log/malformed", "not a CCEL table", { offset: 0 });
  }
  if (table.reduce((sum, byte) => (sum + byte) & 0xff, 0) !== 0) {
    throw new MeasureError("log/malformed", "the CCEL table's checksum is wrong", { offset: 9 });
  }
  return { type: bytes.u8(36), logLength: bytes.u64(40), logAddress: bytes.u64(48) };
}
