// SPDX-License-Identifier: Apache-2.0
/**
 * The table of GUIDs that ends 32 bytes before the end of an OVMF image (edk2, OvmfPkg/ResetVector): read backwards,
 * each entry its data, a length and a GUID.
 */
import { equal } from "@caisson/vocabulary/bytes";
import { type Bytes, parseGuid } from "../bytes.ts";
import { MeasureError } from "../errors.ts";

const TABLE_FOOTER = parseGuid("96b582de-1fb2-45f7-baea-a366c55a082d");
/** Length and GUID, which follow the data. */
const ENTRY = 18;

/** Data of one entry: where it lies, and how much of it there is. */
export interface FooterEntry {
  guid: string;
  offset: number;
  size: number;
}

/** The entries, last one first; undefined where the image has no such table. Throws MeasureError "firmware/metadata". */
export function footerTable(image: Bytes): FooterEntry[] | undefined {
  const tableEnd = image.length - 32;
  if (tableEnd < ENTRY || !equal(image.slice(tableEnd - 16, 16), TABLE_FOOTER)) return undefined;
  const size = image.u16(tableEnd - ENTRY);
  const tableStart = tableEnd - size;
  if (size < ENTRY || tableStart < 0) {
    throw new MeasureError("firmware/metadata", `GUID table of ${size} bytes`, { offset: tableEnd - ENTRY });
  }
  const entries: FooterEntry[] = [];
  let end = tableEnd - ENTRY;
  while (end > tableStart) {
    if (end - tableStart < ENTRY) {
      throw new MeasureError("firmware/metadata", "a GUID table entry is cut off", { offset: tableStart });
    }
    const length = image.u16(end - ENTRY);
    if (length < ENTRY || length > end - tableStart) {
      throw new MeasureError("firmware/metadata", `GUID table entry of ${length} bytes`, {
        offset: end - ENTRY,
      });
    }
    entries.push({ guid: image.guid(end - 16), offset: end - length, size: length - ENTRY });
    end -= length;
  }
  return entries;
}
