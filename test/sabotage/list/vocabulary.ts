// SPDX-License-Identifier: Apache-2.0
import { within } from "../sabotage.ts";

export const vocabulary = within("packages/vocabulary/src", [
  [
    "an event's name may have a colon",
    "events.ts",
    "/^[a-z0-9-]{1,64}$/",
    "/^[a-z0-9:-]{1,64}$/",
    "events.test.ts",
  ],
  ["an event of the boot has gone", "events.ts", '  "boot-mr-done",', "", "events.test.ts"],
  ["a body goes on after its limit", "body.ts", "if (size > limit) break;", "", "body.test.ts"],
  [
    "a frame leaves out the lengths",
    "frame.ts",
    "at = putU32(bytes, at, field.length);",
    "",
    "frame.test.ts",
  ],
  [
    "members of canonical JSON are in no order",
    "canonical-json.ts",
    ".sort(([a], [b]) => (a < b ? -1 : 1));",
    ";",
    "canonical-json.test.ts",
  ],
  [
    "a fraction is canonical",
    "canonical-json.ts",
    'if (typeof value === "number" && Number.isSafeInteger(value))',
    'if (typeof value === "number")',
    "canonical-json.test.ts",
  ],
  [
    "directories are made in Node's way, which hangs on /proc",
    "directory.node.ts",
    "mkdirSync(one, mode);",
    "mkdirSync(one, { mode, recursive: true });",
    "directory.test.ts",
  ],
]);
