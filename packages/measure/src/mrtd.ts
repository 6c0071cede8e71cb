/**
 * MRTD: the build-time measurement of a TD (Intel TDX Module ABI, TDH.MEM.PAGE.ADD and TDH.MR.EXTEND).
 *
 * One SHA-384 runs over 128-byte blocks: one per added page ("MEM.PAGE.ADD", address), and per measured 256 bytes one
 * ("MR.EXTEND", address) followed by the bytes. The TDX module does not fix how a VMM interleaves the two, so the value
 * depends on the VMM; both orders in use are offered here.
 */
import { sha384 } from "#sha";
import type { Section } from "./tdvf.ts";

/**
 * - "single-pass": each page is added and at once extended (upstream KVM with QEMU ≥ 9, td-shim, GCE);
 * - "two-pass": a section's pages are all added, then all extended (QEMU 8.2 of Canonical and Intel).
 */
export type PageOrder = "single-pass" | "two-pass";

const PAGE = 4096;
const CHUNK = 256;
const BLOCK = 128;
const EXTENDED_PAGE = (PAGE / CHUNK) * (BLOCK + CHUNK);
const ADD = new TextEncoder().encode("MEM.PAGE.ADD");
const EXTEND = new TextEncoder().encode("MR.EXTEND");

/**
 * MRTD of a firmware whose sections are `sections` (from `parseTdxMetadata`, which bounds them): 48 bytes.
 * The whole hashed stream is laid out first (about 1.5 times the image): one native hash call over it measured faster
 * than thousands of small updates.
 */
export async function mrtd(
  firmware: Uint8Array,
  sections: readonly Section[],
  order: PageOrder,
): Promise<Uint8Array> {
  let size = 0;
  for (const section of sections) {
    const pages = section.memorySize / PAGE;
    size += pages * ((section.augment ? 0 : BLOCK) + (section.extend ? EXTENDED_PAGE : 0));
  }
  const stream = new Uint8Array(size);
  const view = new DataView(stream.buffer);
  let at = 0;

  const block = (name: Uint8Array, address: number) => {
    stream.set(name, at);
    view.setUint32(at + 16, address % 2 ** 32, true);
    view.setUint32(at + 20, Math.floor(address / 2 ** 32), true);
    at += BLOCK;
  };
  const extendPage = (section: Section, page: number) => {
    for (let chunk = page; chunk < page + PAGE; chunk += CHUNK) {
      block(EXTEND, section.address + chunk);
      // Memory behind the file's data is zero, as `stream` is.
      const available = Math.min(CHUNK, section.rawSize - chunk);
      if (available > 0) {
        const from = section.dataOffset + chunk;
        stream.set(firmware.subarray(from, from + available), at);
      }
      at += CHUNK;
    }
  };

  for (const section of sections) {
    for (let page = 0; page < section.memorySize; page += PAGE) {
      if (!section.augment) block(ADD, section.address + page);
      if (section.extend && order === "single-pass") extendPage(section, page);
    }
    if (section.extend && order === "two-pass") {
      for (let page = 0; page < section.memorySize; page += PAGE) extendPage(section, page);
    }
  }
  return sha384(stream);
}
