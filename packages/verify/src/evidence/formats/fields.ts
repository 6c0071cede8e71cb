// SPDX-License-Identifier: Apache-2.0
/** What the forms of evidence have in common: encodings of bytes in fields, and one error for what does not fit. */
import { fromBase64, fromHex } from "@caisson/vocabulary/bytes";
import { hex, type Schema, SchemaError } from "@caisson/vocabulary/schema";
import { VerifyError } from "../../errors.ts";

/** Canonical base64 of at most `most` bytes, decoded. */
export function base64(most: number): Schema<Uint8Array> {
  const longest = Math.ceil(most / 3) * 4;
  return (value) => {
    const bytes = typeof value === "string" && value.length <= longest ? fromBase64(value) : undefined;
    if (bytes === undefined) throw new SchemaError("", `expected canonical base64 of at most ${most} bytes`);
    return bytes;
  };
}

/** base64url, or base64, with padding or without, of at most `most` bytes: as Azure's tools write it. */
export function base64url(most: number): Schema<Uint8Array> {
  const strict = base64(most);
  return (value) => {
    const text = typeof value === "string" ? value.replace(/-/g, "+").replace(/_/g, "/") : value;
    return strict(typeof text === "string" ? text.padEnd(Math.ceil(text.length / 4) * 4, "=") : text);
  };
}

/** Hexadecimal text of at most `most` bytes, decoded. */
export function hexBytes(most: number): Schema<Uint8Array> {
  const schema = hex([0, most]);
  return (value) => fromHex(schema(value))!;
}

/** Reads a part of evidence. Throws VerifyError "evidence/malformed" with the field. */
export function readPart<T>(schema: Schema<T>, value: unknown, what: string): T {
  try {
    return schema(value);
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error;
    throw new VerifyError("evidence/malformed", `this ${what} is malformed: ${error.message}`, {
      where: error.path || "the whole document",
    });
  }
}
