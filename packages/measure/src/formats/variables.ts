// SPDX-License-Identifier: Apache-2.0
/**
 * UEFI variables: the five of Secure Boot that every boot measures, the boot entries, and the variable store inside a
 * firmware image from which enrolled keys come (MdeModulePkg, VariableFormat.h; UEFI 2.11, sections 3.1.3 and 8.2).
 */

import { concat } from "@caisson/vocabulary/bytes";
import { Bytes, formatGuid, parseGuid, utf16le } from "../bytes.ts";
import { MeasureError } from "../errors.ts";

const GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
const IMAGE_SECURITY = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";
const SYSTEM_NV_DATA_FV = "fff12b8d-7696-4c8b-a985-2747075b4f50";
const AUTHENTICATED_STORE = "aaf32c78-947b-439a-a180-2e144ec37792";
const MAX_VARIABLES = 1024;

/** Vendor of each measured variable, in the order of measurement (dbt only where it exists). */
export const secureBootVariables = [
  ["SecureBoot", GLOBAL],
  ["PK", GLOBAL],
  ["KEK", GLOBAL],
  ["db", IMAGE_SECURITY],
  ["dbx", IMAGE_SECURITY],
  ["dbt", IMAGE_SECURITY],
] as const;

/** As `readVariableStore` keys it. */
export const bootOrderVariable = `BootOrder-${GLOBAL}`;

/** UEFI_VARIABLE_DATA: vendor, lengths, name without NUL, data. The digest of Secure Boot's events covers all of it. */
export function variableData(name: string, guid: string, data: Uint8Array): Uint8Array {
  const lengths = new Uint8Array(16);
  const view = new DataView(lengths.buffer);
  view.setUint32(0, name.length, true);
  view.setUint32(8, data.length, true);
  return concat(parseGuid(guid), lengths, utf16le(name), data);
}

/** EFI_LOAD_OPTION for an application inside a firmware volume. `attributes`: UEFI 2.11, section 3.1.3. */
export function loadOption(
  attributes: number,
  description: string,
  volume: string,
  file: string,
): Uint8Array {
  const node = (type: number, guid: string) => concat(Uint8Array.of(4, type, 20, 0), parseGuid(guid));
  const path = concat(node(7, volume), node(6, file), Uint8Array.of(0x7f, 0xff, 4, 0));
  const head = new Uint8Array(6);
  const view = new DataView(head.buffer);
  view.setUint32(0, attributes, true);
  view.setUint16(4, path.length, true);
  return concat(head, utf16le(`${description}\0`), path);
}

/** Data of the BootOrder variable. */
export function bootOrder(entries: readonly number[]): Uint8Array {
  const data = new Uint8Array(2 * entries.length);
  const view = new DataView(data.buffer);
  entries.forEach((entry, i) => {
    view.setUint16(2 * i, entry, true);
  });
  return data;
}

/**
 * Live variables of a firmware's variable store (a CFV section, or a VARS file), keyed "name-guid". Empty where the
 * volume is not a variable store. Throws MeasureError "volume/malformed" or "volume/truncated" on a damaged one.
 */
export function readVariableStore(volume: Uint8Array): Map<string, Uint8Array> {
  const bytes = new Bytes(volume, "volume");
  const variables = new Map<string, Uint8Array>();
  if (volume.length < 0x48 || bytes.guid(16) !== SYSTEM_NV_DATA_FV) return variables;
  const store = bytes.u16(48);
  if (bytes.guid(store) !== AUTHENTICATED_STORE) return variables;
  const end = store + bytes.u32(store + 16);
  if (end > volume.length)
    throw new MeasureError("volume/malformed", "variable store larger than its volume", {
      offset: store + 16,
    });
  let at = store + 28;
  while (at + 60 <= end && bytes.u16(at) === 0x55aa) {
    const nameSize = bytes.u32(at + 36);
    const dataSize = bytes.u32(at + 40);
    if (at + 60 + nameSize + dataSize > end || variables.size >= MAX_VARIABLES) {
      throw new MeasureError("volume/malformed", "a variable exceeds its store", { offset: at });
    }
    // 0x3f: added and neither deleted nor in the course of it.
    if (bytes.u8(at + 2) === 0x3f) {
      const name = new TextDecoder("utf-16le").decode(bytes.slice(at + 60, nameSize)).replace(/\0$/, "");
      const key = `${name}-${formatGuid(bytes.slice(at + 44, 16))}`;
      variables.set(key, bytes.slice(at + 60 + nameSize, dataSize));
    }
    at = (at + 60 + nameSize + dataSize + 3) & ~3;
  }
  return variables;
}
