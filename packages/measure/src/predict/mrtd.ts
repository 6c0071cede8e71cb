// SPDX-License-Identifier: Apache-2.0
/**
 * MRTD: the build-time measurement of a TD (Intel TDX Module ABI, TDH.MEM.PAGE.ADD and TDH.MR.EXTEND).
 *
 * One SHA-384 runs over 128-byte blocks: one per added page ("MEM.PAGE.ADD", address), and per measured 256 bytes one
 * ("MR.EXTEND", address) followed by the bytes. The TDX module does not fix how a VMM interleaves the two, so the value
 * depends on the VMM; both orders in use are offered here.
 */
import { sha384 } from "#sha";
import type { Section } from "../formats/tdvf.ts";

/**
 * - "single-pass": each page is added and at once extended (upstream KVM with QEMU ≥ 9, td-shim, GCE);
 * - "two-pass": a section's pages are all added, then all extended (QEMU 8.2 of Canonical and Intel).
 */
export type PageOrder = "single-pass" | "two-pass";

const PAGE = 4096;
const CHUNK = 256;
const BLOCK = 128;
const EXTENDED_PAGE = (PAGE / CHUNK) * (BLOCK + CHUNK);

/**
 * MRTD of a firmware whose sections are `sections` (from `parseTdxMetadata`, which bounds them): 48 bytes.
 * The host's order decides, and an image has both values: `mrtdBothOrders`.
 */
export async function mrtd(
  firmware: Uint8Array,
  sections: readonly Section[],
  order: PageOrder,
): Promise<Uint8Array> {
  const stream = singlePassStream(firmware, sections);
  return order === "single-pass" ? sha384(stream) : sha384(...twoPassParts(stream, sections));
}

/** Both values, for the work of one and a hash. */
export async function mrtdBothOrders(
  firmware: Uint8Array,
  sections: readonly Section[],
): Promise<{ singlePass: Uint8Array; twoPass: Uint8Array }> {
  const stream = singlePassStream(firmware, sections);
  return { singlePass: await sha384(stream), twoPass: await sha384(...twoPassParts(stream, sections)) };
}

/**
 * The hashed bytes, laid out whole (about 1.5 times the image): one native hash call over them measured faster than
 * an update for each of some 30,000 blocks.
 */
function singlePassStream(firmware: Uint8Array, sections: readonly Section[]): Uint8Array {
  let size = 0;
  for (const section of sections) size += (section.memorySize / PAGE) * bytesPerPage(section);
  const stream = new Uint8Array(size);
  const view = new DataView(stream.buffer);
  let at = 0;
  for (const { address, memorySize, dataOffset, rawSize, extend, augment } of sections) {
    for (let page = 0; page < memorySize; page += PAGE) {
      if (!augment) {
        view.setBigUint64(at, 0x4547_4150_2e4d_454dn, true); // "MEM.PAGE"
        view.setUint32(at + 8, 0x4444_412e, true); // ".ADD"
        writeAddress(view, at, address + page);
        at += BLOCK;
      }
      if (!extend) continue;
      for (let chunk = page; chunk < page + PAGE; chunk += CHUNK) {
        view.setBigUint64(at, 0x4e45_5458_452e_524dn, true); // "MR.EXTEN"
        view.setUint8(at + 8, 0x44); // "D"
        writeAddress(view, at, address + chunk);
        at += BLOCK;
        // Memory behind the file's data is zero, as `stream` is.
        const available = Math.min(CHUNK, rawSize - chunk);
        if (available > 0)
          stream.set(firmware.subarray(dataOffset + chunk, dataOffset + chunk + available), at);
        at += CHUNK;
      }
    }
  }
  return stream;
}

function writeAddress(view: DataView, block: number, address: number): void {
  view.setUint32(block + 16, address % 2 ** 32, true);
  view.setUint32(block + 20, Math.floor(address / 2 ** 32), true);
}

const bytesPerPage = ({ extend, augment }: Section): number =>
  (augment ? 0 : BLOCK) + (extend ? EXTENDED_PAGE : 0);

/** The same bytes in the other order: of each section first the additions, then the extensions. */
function twoPassParts(stream: Uint8Array, sections: readonly Section[]): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const section of sections) {
    const size = bytesPerPage(section);
    const end = at + (section.memorySize / PAGE) * size;
    if (!section.extend || section.augment) parts.push(stream.subarray(at, end));
    else {
      for (let page = at; page < end; page += size) parts.push(stream.subarray(page, page + BLOCK));
      for (let page = at; page < end; page += size) parts.push(stream.subarray(page + BLOCK, page + size));
    }
    at = end;
  }
  return parts;
}
