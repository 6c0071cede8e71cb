// SPDX-License-Identifier: Apache-2.0
/** Text of a guest, a quote or a file, as one line that a terminal shows and does not obey. */
import { stripVTControlCharacters } from "node:util";

export function printable(text: string): string {
  return stripVTControlCharacters(text).replace(/[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]+/gu, " ");
}
