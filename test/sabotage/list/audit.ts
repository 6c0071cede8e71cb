// SPDX-License-Identifier: Apache-2.0
import { within } from "../sabotage.ts";

const matrix = "catalogue/catalogue.test.ts";

export const audit = within("packages/audit/src", [
  ["a counterexample is not made", "expect.ts", 'copy.sysctls[key] = "caisson-wrong";', "", matrix],
  [
    "a setting that is not reported passes",
    "expect.ts",
    'return found === value ? undefined : (found ?? "not reported");',
    "return found === undefined || found === value ? undefined : found;",
    matrix,
  ],
  [
    "a check that the report lacks passes",
    "expect.ts",
    'if (check === undefined) return "the report does not contain this check";',
    "if (check === undefined) return undefined;",
    "audit.test.ts",
  ],
  [
    "a repeated token passes",
    "expect.ts",
    "if (same.length === 1 && same[0] === token) return undefined;",
    "if (same.includes(token)) return undefined;",
    matrix,
  ],
  [
    "development excuses for every kind",
    "audit.ts",
    "if (deviation?.kinds.includes(kind) && isDevelopment(kind, facts)) {",
    "if (deviation !== undefined && isDevelopment(kind, facts)) {",
    "audit.test.ts",
  ],
  [
    "acceptances never expire",
    "audit.ts",
    "return now < new Date(`${acceptance.expires}T23:59:59Z`)",
    "return now",
    "audit.test.ts",
  ],
  [
    "another image vouches for a guest",
    "audit.ts",
    'if (image.commandLine.join(" ") !== splitCommandLine(live.commandLine).join(" ")) {',
    "if (false) {",
    "audit.test.ts",
  ],
  ["one control has gone", "catalogue/userspace.ts", '    id: "U17",', '    id: "U16",', matrix],
  [
    "hidepid is not asked for",
    "catalogue/userspace.ts",
    '            : "hidepid is off";',
    "            : undefined;",
    matrix,
  ],
  [
    "the file system's end is not minded",
    "erofs-image.ts",
    "if (stop > this.end || behind + tail > this.end)",
    "if (false)",
    "erofs-image.test.ts",
  ],
  [
    "directories may contain themselves",
    "erofs-image.ts",
    "if (parents.has(offset)) throw",
    "if (false) throw",
    "erofs-image.test.ts",
  ],
  [
    "features of the file system that were never audited are accepted",
    "erofs-image.ts",
    "if (incompatibleFeatures !== 0)",
    "if (false)",
    "erofs-image.test.ts",
  ],
  ["what a guest says reaches the page as it is", "page.ts", '    "<": "&lt;",', "", "audit.test.ts"],
]);
