// SPDX-License-Identifier: Apache-2.0
/**
 * SHA-384 of a PE image as edk2 measures it (SecurityPkg DxeTpmMeasurementLib / Tcg2Dxe, after Microsoft's
 * "Windows Authenticode Portable Executable Signature Format" 1.0, "Calculating the PE image hash"):
 * headers without CheckSum and without the security directory entry, sections by file position, then what follows
 * them up to the certificates. Nothing is padded.
 */
import { sha384 } from "#sha";
import { Bytes } from "../bytes.ts";
import { MeasureError } from "../errors.ts";

/** A section of a PE image: where its data lies in the file, and how large it is in memory. */
export interface PeSection {
  name: string;
  offset: number;
  rawSize: number;
  virtualSize: number;
}

interface PeHeaders {
  checksumOffset: number;
  /** Offset of the security directory entry, where the header has one. */
  securityEntry: number | undefined;
  certificateSize: number;
  headersSize: number;
  sections: readonly PeSection[];
}

const SECURITY_DIRECTORY = 4;
/** The PE format's loader limit; a Linux kernel has 4, a UKI about 10. */
const MAX_SECTIONS = 96;

/** Headers of a PE32 or PE32+ image. Throws MeasureError "pe/truncated" or "pe/malformed" with the offset. */
export function parsePe(image: Uint8Array): PeHeaders {
  const pe = new Bytes(image, "pe");
  const fail = (reason: string, offset: number): never => {
    throw new MeasureError("pe/malformed", `PE image: ${reason}`, { offset });
  };
  if (pe.u16(0) !== 0x5a4d) fail("no MZ signature", 0);
  const header = pe.u32(0x3c);
  if (pe.u32(header) !== 0x4550) fail("no PE signature", header);
  const sectionCount = pe.u16(header + 6);
  const optionalSize = pe.u16(header + 20);
  const optional = header + 24;
  const magic = pe.u16(optional);
  if (magic !== 0x10b && magic !== 0x20b) fail(`optional header magic 0x${magic.toString(16)}`, optional);
  if (sectionCount > MAX_SECTIONS) fail(`${sectionCount} sections`, header + 6);

  const directories = optional + (magic === 0x20b ? 112 : 96);
  const directoryCount = pe.u32(directories - 4);
  const hasSecurity = directoryCount > SECURITY_DIRECTORY;
  const securityEntry = hasSecurity ? directories + 8 * SECURITY_DIRECTORY : undefined;
  if (hasSecurity && directories + 8 * (SECURITY_DIRECTORY + 1) > optional + optionalSize) {
    fail("the optional header is too small for its directories", header + 20);
  }
  const certificateSize = securityEntry === undefined ? 0 : pe.u32(securityEntry + 4);

  const headersSize = pe.u32(optional + 60);
  const tableEnd = optional + optionalSize + 40 * sectionCount;
  if (headersSize > image.length || headersSize < tableEnd)
    fail(`headers of ${headersSize} bytes`, optional + 60);
  const sections = Array.from({ length: sectionCount }, (_, i): PeSection => {
    const at = optional + optionalSize + 40 * i;
    const rawSize = pe.u32(at + 16);
    const offset = pe.u32(at + 20);
    if (rawSize > 0 && offset + rawSize > image.length) fail("section data outside the file", at + 16);
    const name = new TextDecoder("latin1").decode(pe.slice(at, 8)).replace(/\0.*$/s, "");
    return { name, offset, rawSize, virtualSize: pe.u32(at + 8) };
  });
  return { checksumOffset: optional + 64, securityEntry, certificateSize, headersSize, sections };
}

/** The 48-byte Authenticode SHA-384 of a PE image. Throws as `parsePe` does. */
export async function authenticode(image: Uint8Array): Promise<Uint8Array> {
  const { checksumOffset, securityEntry, certificateSize, headersSize, sections } = parsePe(image);
  const parts: Uint8Array[] = [image.subarray(0, checksumOffset)];
  if (securityEntry === undefined) {
    parts.push(image.subarray(checksumOffset + 4, headersSize));
  } else {
    parts.push(
      image.subarray(checksumOffset + 4, securityEntry),
      image.subarray(securityEntry + 8, headersSize),
    );
  }
  let summed = headersSize;
  for (const { offset, rawSize } of sections.toSorted((a, b) => a.offset - b.offset)) {
    if (rawSize === 0) continue;
    parts.push(image.subarray(offset, offset + rawSize));
    summed += rawSize;
  }
  const trailing = image.length - certificateSize - summed;
  if (trailing < 0) {
    throw new MeasureError("pe/malformed", "PE image: headers, sections and certificates exceed the file", {
      facts: [["excess", `${-trailing} bytes`]],
    });
  }
  parts.push(image.subarray(summed, summed + trailing));
  return sha384(...parts);
}
