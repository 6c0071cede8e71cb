// SPDX-License-Identifier: Apache-2.0
/**
 * Collateral in the forms in which it is handed around: PCCS clients' JSON or YAML, with bytes as hexadecimal, as PEM or as
 * lists of numbers, and with PCS's answers whole (`{"tcbInfo":…,"signature":…}`) where a document and its signature stand
 * apart here. Each form is brought into ours; nothing is judged, and what is in no known form is left for the reader of
 * collateral to refuse by name. What Intel signed is cut out of its text by position, never written anew.
 */
import { fromBase64, toHex } from "@caisson/vocabulary/bytes";
import { messageOf } from "@caisson/vocabulary/failure";
import { VerifyError } from "../errors.ts";
import { readYaml } from "../policy/policy-text.ts";
import type { Collateral } from "./collateral.ts";
import { signedParts } from "./pcs-answers.ts";

const bytesFields = ["root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature"] as const;
/** A signed document, its signature's field, and the member of PCS's answer that it is. */
const signedFields = [
  ["tcb_info", "tcb_info_signature", "tcbInfo"],
  ["qe_identity", "qe_identity_signature", "enclaveIdentity"],
] as const;

/**
 * Collateral from a text. What comes out has our fields, and is still to be read (`readCollateral`). Throws VerifyError
 * "evidence/malformed" for a text that is not data.
 */
export function collateralFromText(text: string, name: string): Collateral {
  let document: unknown;
  try {
    // JSON first: a YAML parser takes a hundred times as long for the same.
    document = text.trimStart().startsWith("{") ? JSON.parse(text) : readYaml(text);
  } catch (error) {
    throw new VerifyError("evidence/malformed", `${name} is not JSON or YAML: ${messageOf(error)}`);
  }
  return inOurForm(document) as Collateral;
}

function inOurForm(document: unknown): unknown {
  if (typeof document !== "object" || document === null || Array.isArray(document)) return document;
  const fields: Record<string, unknown> = { ...document };
  for (const name of bytesFields) {
    if (Object.hasOwn(fields, name)) fields[name] = hexOf(fields[name]);
  }
  for (const [name, signature, member] of signedFields) {
    const text = fields[name];
    const whole = typeof text === "string" && !Object.hasOwn(fields, signature);
    const answer = whole ? signedParts(text, member) : undefined;
    if (answer !== undefined) Object.assign(fields, { [name]: answer.json, [signature]: answer.signature });
  }
  return fields;
}

/** Bytes as hexadecimal: of a list of numbers, or of one PEM block; anything else as it is. */
function hexOf(value: unknown): unknown {
  if (Array.isArray(value) && value.length <= 1 << 20 && value.every(isByte))
    return toHex(Uint8Array.from(value));
  if (typeof value !== "string") return value;
  const block = /^-----BEGIN X509 CRL-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END X509 CRL-----\s*$/.exec(
    value,
  )?.[1];
  const bytes = block === undefined ? undefined : fromBase64(block.replace(/[\r\n]+/g, ""));
  return bytes === undefined ? value : toHex(bytes);
}

const isByte = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 255;
