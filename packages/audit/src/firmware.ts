/** What is known of a firmware image. */
import { hash } from "node:crypto";
import { MeasureError } from "@caisson/measure";
import { parseTdxMetadata } from "@caisson/measure/tdvf";

export interface FirmwareModule {
  /** Lower-case GUID of the FFS file. */
  guid: string;
  /** From its user interface section. */
  name?: string;
  /** "driver", "application", "SEC core", … */
  type: string;
  /** Bytes, unpacked. */
  size: number;
}

export interface FirmwareFacts {
  size: number;
  /** Hex. */
  sha256: string;
  /** Sections of its TDX metadata; empty when it has none that is usable (a CODE part alone has none). */
  sections: { type: string; size: number; measured: boolean }[];
  /** Modules in its volumes; undefined when they could not be listed. */
  modules?: FirmwareModule[];
}

/** Facts of a firmware file. */
export function readFirmware(bytes: Uint8Array): FirmwareFacts {
  return { size: bytes.length, sha256: hash("sha256", bytes, "hex"), sections: sections(bytes) };
}

function sections(bytes: Uint8Array): FirmwareFacts["sections"] {
  try {
    return parseTdxMetadata(bytes).sections.map(({ type, memorySize, extend }) => ({
      type,
      size: memorySize,
      measured: extend,
    }));
  } catch (error) {
    if (error instanceof MeasureError) return [];
    throw error;
  }
}
