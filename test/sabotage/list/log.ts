// SPDX-License-Identifier: Apache-2.0
import { within } from "../sabotage.ts";

const witness = "witness.test.ts";
const crash = "crash.test.ts";

export const log = within("packages/log/src", [
  [
    "a witness signs what the log did not sign",
    "witness.ts",
    '    if (!signed) return refuse(403, "the log did not sign this checkpoint");',
    "",
    witness,
  ],
  [
    "a witness signs two histories of one size",
    "witness.ts",
    "if (old === checkpoint.size && old > 0 && !equal(seen.root, checkpoint.root)) {",
    "if (false) {",
    witness,
  ],
  [
    "a witness forgets how far it saw",
    "witness.ts",
    "    if (old !== seen.size) return refuse(409, `${seen.size}`);",
    "",
    witness,
  ],
  [
    "nobody shows the witness that a log was only added to",
    "witness.ts",
    "(await verifyConsistency(seen, checkpoint, proof));",
    "proof.length >= 0;",
    witness,
  ],
  [
    "a log goes on without entries that it published",
    "writer.ts",
    "    if (size <= this.#tree.size) return;",
    "    return;",
    crash,
  ],
  [
    "files of the journal are not written again",
    "writer.ts",
    '    this.#tree.checkRoot(tree, join(this.#directory, "journal"));',
    "    changed.files.clear();",
    crash,
  ],
  [
    "a torn record counts",
    "journal.ts",
    "  return equal(digest(content), bytes.subarray(at + 4, at + headerSize)) ? content : undefined;",
    "  return content;",
    crash,
  ],
  [
    "a journal whose files are on disk counts twice",
    "writer.ts",
    "    if (tree.size <= this.#settled) return;",
    "",
    crash,
  ],
]);
