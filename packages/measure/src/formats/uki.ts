/**
 * Unified kernel images: a PE whose sections hold kernel, command line and initrd (UAPI Group, "Unified Kernel Image").
 */

import { MeasureError } from "../errors.ts";
import { parsePe } from "./authenticode.ts";

/**
 * The parts of a UKI that end up in registers. `commandLine` is the text of `.cmdline` as the stub passes it on,
 * `sections` every section by name, content cut to its size in memory (what systemd-stub measures).
 */
export interface Uki {
  kernel: Uint8Array;
  commandLine: string;
  initrd: Uint8Array | undefined;
  sections: ReadonlyMap<string, Uint8Array>;
}

/** Takes a UKI apart. Throws MeasureError "uki/malformed" without a `.linux` section, and as `parsePe` does. */
export function parseUki(image: Uint8Array): Uki {
  const sections = new Map<string, Uint8Array>();
  for (const { name, offset, rawSize, virtualSize } of parsePe(image).sections) {
    if (sections.has(name)) throw new MeasureError("uki/malformed", `UKI: two sections ${name}`, { offset });
    const size = virtualSize === 0 ? rawSize : Math.min(rawSize, virtualSize);
    sections.set(name, image.subarray(offset, offset + size));
  }
  const kernel = sections.get(".linux");
  if (kernel === undefined || !sections.has(".cmdline")) {
    throw new MeasureError("uki/malformed", "the PE image is no UKI: it lacks .linux or .cmdline");
  }
  const commandLine = stubCommandLine(sections.get(".cmdline")!);
  return { kernel, commandLine, initrd: sections.get(".initrd"), sections };
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
    throw new MeasureError("uki/malformed", "UKI: a command line that is not ASCII", { kind: "unsupported" });
  }
  return new TextDecoder().decode(bytes.map((byte) => (byte < 0x20 || byte === 0x7f ? 0x20 : byte))).trim();
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
