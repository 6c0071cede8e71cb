// SPDX-License-Identifier: Apache-2.0
import { within } from "../sabotage.ts";

export const page = within("packages/page/src", [
  [
    "the page may load from anywhere",
    "build.ts",
    "\"default-src 'none'\",",
    '"default-src *",',
    "files.test.ts",
  ],
  [
    "events count although they do not replay",
    "registers.ts",
    'toHex(replayed[`rtmr${i}` as "rtmr0"]) === value',
    "true",
    "files.test.ts",
  ],
]);
