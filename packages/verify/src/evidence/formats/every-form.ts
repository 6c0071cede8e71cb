// SPDX-License-Identifier: Apache-2.0
/** Every form in which evidence comes, Tinfoil's as well: for commands and the page, which meet them all. */
import { document, type Form, forms, readerOf } from "./forms.ts";
import { readTinfoil, tinfoilPredicate } from "./tinfoil.ts";

/** In the order in which they are asked. */
export const everyForm: readonly Form[] = [
  document(
    "a Tinfoil attestation document",
    `JSON with format: "${tinfoilPredicate}…"`,
    ({ format }) => typeof format === "string" && format.startsWith(tinfoilPredicate),
    readTinfoil,
  ),
  ...forms,
];

export const { readEvidence, isEvidence } = readerOf(everyForm);
