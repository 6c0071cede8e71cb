// SPDX-License-Identifier: Apache-2.0
/** What is known of a firmware image (decision D2). */
import { hash } from "node:crypto";
import { MeasureError } from "@caisson/measure";
import { firmwareVolumes } from "@caisson/measure/firmware-volume";
import { mrtd } from "@caisson/measure/mrtd";
import { parseTdxMetadata, type TdxMetadata } from "@caisson/measure/tdvf";
import { readVariableStore, secureBootVariables } from "@caisson/measure/variables";

export interface FirmwareModule {
  /** Lower-case GUID of the FFS file. */
  guid: string;
  /** From its user interface section. */
  name?: string;
  /** "DXE driver", "application", … */
  type: string;
  /** Bytes, unpacked. */
  size: number;
}

export interface FirmwareFacts {
  size: number;
  /** Hex. */
  sha256: string;
  /** How the TDX metadata was found; undefined when there is none that is usable (a CODE part alone has none). */
  form?: TdxMetadata["form"];
  /** Sections of the TDX metadata. */
  sections: { type: string; size: number; measured: boolean }[];
  /** Modules in its volumes; undefined when they could not be listed. */
  modules?: FirmwareModule[];
  /** Why not. */
  unlisted?: string;
  /** Names of Secure Boot variables that the image's own variable store sets. */
  secureBootKeys: string[];
}

/** Facts of a firmware file. Throws nothing: what cannot be read is said in the facts. */
export function readFirmware(bytes: Uint8Array): FirmwareFacts {
  const metadata = orUndefined(() => parseTdxMetadata(bytes));
  const facts: FirmwareFacts = {
    size: bytes.length,
    sha256: hash("sha256", bytes, "hex"),
    ...(metadata !== undefined && { form: metadata.form }),
    sections: (metadata?.sections ?? []).map(({ type, memorySize, extend }) => ({
      type,
      size: memorySize,
      measured: extend,
    })),
    secureBootKeys: secureBootKeys(bytes),
  };
  try {
    const files = firmwareVolumes(bytes).flatMap((volume) => volume.files);
    if (files.length === 0) return { ...facts, unlisted: "it holds no firmware volumes" };
    // A "volume image" is what wraps the others: counting it would count them twice.
    const modules = files.filter(({ type }) => type !== "volume image");
    return {
      ...facts,
      modules: modules.map(({ guid, type, size, name }) => ({
        guid,
        type,
        size,
        ...(name !== undefined && { name }),
      })),
    };
  } catch (error) {
    if (!(error instanceof MeasureError)) throw error;
    return { ...facts, unlisted: error.message };
  }
}

/** MRTD in both page orders, hex; undefined for a firmware that TDX cannot measure. */
export async function bothMrtd(
  bytes: Uint8Array,
): Promise<{ singlePass: string; twoPass: string } | undefined> {
  const metadata = orUndefined(() => parseTdxMetadata(bytes));
  if (metadata === undefined) return undefined;
  const hex = async (order: "single-pass" | "two-pass") =>
    Buffer.from(await mrtd(bytes, metadata.sections, order)).toString("hex");
  return { singlePass: await hex("single-pass"), twoPass: await hex("two-pass") };
}

function secureBootKeys(bytes: Uint8Array): string[] {
  const store = orUndefined(() => readVariableStore(bytes)) ?? new Map<string, Uint8Array>();
  return secureBootVariables
    .filter(([name, vendor]) => (store.get(`${name}-${vendor}`)?.length ?? 0) > 0)
    .map(([name]) => name);
}

function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof MeasureError) return undefined;
    throw error;
  }
}
