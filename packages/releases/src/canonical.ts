// SPDX-License-Identifier: Apache-2.0
/**
 * Documents that are signed or hashed: JSON in the one spelling that canonical JSON gives its value. A second spelling
 * (another order, a repeated key, white space, an escape that need not be) is refused, so what was signed is what is read.
 */

import { equal } from "@caisson/vocabulary/bytes";
import { canonicalJson } from "@caisson/vocabulary/canonical-json";
import { messageOf } from "@caisson/vocabulary/failure";
import { text } from "@caisson/vocabulary/frame";
import { type Schema, SchemaError } from "@caisson/vocabulary/schema";
import { type ReleaseCode, ReleaseError } from "./errors.ts";

/** The document in `bytes`, of at most `limit` of them. Throws ReleaseError `code`. */
export function readCanonical<T>(bytes: Uint8Array, schema: Schema<T>, code: ReleaseCode, limit: number): T {
  if (bytes.length > limit) throw new ReleaseError(code, `${bytes.length} bytes; at most ${limit} are read`);
  let value: unknown;
  let canonical: string;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
    canonical = canonicalJson(value);
  } catch (error) {
    throw new ReleaseError(code, `this is not a JSON document: ${messageOf(error)}`);
  }
  if (!equal(text(canonical), bytes)) {
    throw new ReleaseError(
      code,
      "this JSON is not in its canonical form (keys sorted, no white space, once each)",
    );
  }
  return readValue(value, schema, code);
}

/** A parsed value by its schema. Throws ReleaseError `code`. */
export function readValue<T>(value: unknown, schema: Schema<T>, code: ReleaseCode): T {
  try {
    return schema(value);
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error;
    throw new ReleaseError(code, `${error.path || "the document"}: ${error.message}`);
  }
}

/** The bytes of a document. */
export const writeCanonical = (document: object): Uint8Array => text(canonicalJson(document));
