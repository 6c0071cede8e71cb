// SPDX-License-Identifier: Apache-2.0
/** The lines of a policy that pins what a Nitro document shows. */
import { isZero, toHex } from "@caisson/vocabulary/bytes";
import { type Line, list } from "../policy/policy-lines.ts";
import { parseNitro } from "./document.ts";

/** Throws VerifyError "nitro/…". */
export function nitroLines(bytes: Uint8Array): Line[] {
  const { kind, moduleId, pcrs, publicKey, userData } = parseNitro(bytes);
  const bound = (name: string, value: Uint8Array | undefined): Line[] =>
    value === undefined || value.length === 0
      ? []
      : [[`  ${name}: ${list(toHex(value))}`, "bytes that the machine had bound"]];
  const pinned = [...pcrs].filter(([, value]) => !isZero(value));
  return [
    ["nitro:"],
    [`  kinds: [${kind}]`, "an enclave, or a machine with a NitroTPM"],
    ["  pcrs:", "what was started (SHA-384); leave out what may differ"],
    ...(pinned.length === 0 ? [...pcrs] : pinned).map(
      ([index, value]): Line => [`    "${index}": ${list(toHex(value))}`],
    ),
    [`  modules: ${list(moduleId)}`, "this one machine; without the line: every one"],
    ...bound("publicKeys", publicKey),
    ...bound("userData", userData),
  ];
}
