// SPDX-License-Identifier: Apache-2.0
import { within } from "../sabotage.ts";

export const provenance = within("packages/provenance/src", [
  [
    "anybody's sources may be built by a workflow that many may call",
    "provenance.ts",
    "    found.repository !== repository ||",
    "",
    "provenance.test.ts",
  ],
  [
    "a provenance of several things is one of this",
    "provenance.ts",
    "if (subjects.length === 1 && subject?.digest?.sha256 === manifest) return;",
    "if (subject?.digest?.sha256 === manifest) return;",
    "provenance.test.ts",
  ],
  [
    "a runner of somebody's own builds, too",
    "provenance.ts",
    '    found.runner !== "github-hosted" ||',
    "",
    "provenance.test.ts",
  ],
]);
