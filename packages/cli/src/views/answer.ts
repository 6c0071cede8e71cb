// SPDX-License-Identifier: Apache-2.0
/** What a command answers on standard output: one JSON document with `--json`, text without. */

/** A document as every command writes it, indented and with its line's end. */
export const jsonText = (document: unknown): string => `${JSON.stringify(document, null, 2)}\n`;

/** Writes the answer. `text` is without its last line's end. */
export function answer(json: boolean | undefined, document: unknown, text: string): void {
  process.stdout.write(json === true ? jsonText(document) : `${text}\n`);
}
