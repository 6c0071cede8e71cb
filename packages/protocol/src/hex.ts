// SPDX-License-Identifier: Apache-2.0
import * as z from "zod/mini";

/** The schema of `bytes` bytes as lower-case hexadecimal, for schemas of `zod` and of `zod/mini`. */
export const hex = (bytes: number) =>
  z.string().check(z.regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`), `expected ${bytes} bytes in hex`));
