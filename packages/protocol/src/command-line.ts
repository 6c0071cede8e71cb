// SPDX-License-Identifier: Apache-2.0
/**
 * Splits a kernel command line as the kernel does: at spaces outside double quotes, and a quote that is never closed
 * holds all that follows (lib/cmdline.c, next_arg). For printable ASCII; what else is a space differs between the two.
 */
export function splitCommandLine(line: string): string[] {
  return line.match(/(?:[^\s"]|"[^"]*(?:"|$))+/g) ?? [];
}
