// SPDX-License-Identifier: Apache-2.0
/**
 * Unified kernel images: a PE whose sections hold kernel, command line and initrd (UAPI Group, "Unified Kernel Image"),
 * as systemd-stub 257 sees them: loaded into memory by the firmware.
 *
 * Invariant: a section's content is what lies in memory, VirtualSize bytes, zeros where the file has fewer; a section of
 * size 0 in memory is none to the stub, however much the file holds.
 */
import { MeasureError } from "../errors.ts";
import { type PeSection, parsePe } from "./authenticode.ts";

/** The parts of a UKI that end up in registers; `sections` is every section by name, as it lies in memory. */
export interface Uki {
  kernel: Uint8Array;
  /** The text of `.cmdline` as the stub passes it on; undefined without one: the line is then the boot entry's. */
  commandLine: string | undefined;
  initrd: Uint8Array | undefined;
  sections: ReadonlyMap<string, Uint8Array>;
}

/** What sections may be larger in memory than in the file, all together: real ones by less than a page each. */
const MAX_PADDING = 64 << 20;

/**
 * Takes a UKI apart. Throws MeasureError "uki/malformed" without a `.linux` section or with sections too large in
 * memory, "uki/unsupported" where which section counts is not modelled (several profiles), and as `parsePe` does.
 */
export function parseUki(image: Uint8Array): Uki {
  const sections = new Map<string, Uint8Array>();
  let padding = 0;
  for (const section of parsePe(image).sections) {
    const { name, offset, rawSize, virtualSize } = section;
    if (virtualSize === 0) continue;
    if (sections.has(name)) {
      // Profiles repeat sections, and so do device trees; the boot entry or the machine chooses.
      throw unsupported(`several sections ${name}, of which the stub takes one`);
    }
    padding += Math.max(0, virtualSize - rawSize);
    if (padding > MAX_PADDING) {
      throw new MeasureError("uki/malformed", `UKI: section ${name} has ${virtualSize} bytes in memory`, {
        offset,
      });
    }
    sections.set(name, inMemory(image, section));
  }
  const kernel = sections.get(".linux");
  if (kernel === undefined) {
    throw new MeasureError("uki/malformed", "the PE image is not a UKI: it lacks .linux");
  }
  const line = sections.get(".cmdline");
  const commandLine = line && stubCommandLine(line);
  return { kernel, commandLine, initrd: sections.get(".initrd"), sections };
}

const unsupported = (what: string): MeasureError =>
  new MeasureError("uki/unsupported", `UKI: ${what}`, { kind: "unsupported" });

function inMemory(image: Uint8Array, { offset, rawSize, virtualSize }: PeSection): Uint8Array {
  const data = image.subarray(offset, offset + Math.min(rawSize, virtualSize));
  if (data.length === virtualSize) return data;
  const padded = new Uint8Array(virtualSize);
  padded.set(data);
  return padded;
}

/**
 * How systemd's stub names itself ("systemd-stub 257.13-1"), from `.sdmagic` (src/boot/stub.c): "#### LoaderInfo:
 * systemd-stub VERSION ####". Undefined for any other stub.
 */
export function stubName({ sections }: Uki): string | undefined {
  const text = new TextDecoder("latin1").decode(sections.get(".sdmagic") ?? new Uint8Array());
  return /^#### LoaderInfo: (systemd-stub [!-~]{1,64}) ####/.exec(text)?.[1];
}

/** What systemd-stub makes of `.cmdline`: up to a NUL, control characters as spaces, none of them at either end. */
function stubCommandLine(section: Uint8Array): string {
  const end = section.indexOf(0);
  const bytes = end < 0 ? section : section.subarray(0, end);
  if (bytes.some((byte) => byte > 0x7f)) {
    throw unsupported("a command line that is not ASCII");
  }
  return new TextDecoder().decode(bytes.map((byte) => (byte < 0x20 || byte === 0x7f ? 0x20 : byte))).trim();
}

/** Sections that the stub hands to the kernel beside `.initrd`, in archives of its own making (src/boot/stub.c). */
const archivedSections = [".osrel", ".pcrsig", ".pcrpkey", ".profile", ".ucode"] as const;

/**
 * What the stub adds to the kernel's initrd: names of sections. Archives of its own making are not modelled, so that
 * with any of them what a kernel measures as its initrd is open.
 */
export function archivedBesideInitrd({ sections }: Uki): string[] {
  return archivedSections.filter((name) => sections.has(name));
}

/**
 * Sections in the order in which systemd-stub measures them (src/fundamental/uki.c, unified_sections); `.pcrsig` is
 * never measured.
 */
export const measuredSections = [
  ".linux",
  ".osrel",
  ".cmdline",
  ".initrd",
  ".ucode",
  ".splash",
  ".dtb",
  ".uname",
  ".sbat",
  ".pcrpkey",
  ".profile",
  ".dtbauto",
  ".hwids",
] as const;
