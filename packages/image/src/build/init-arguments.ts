// SPDX-License-Identifier: Apache-2.0
/** What the kernel passes to PID 1 (Node) after `--`: flags of Node, then the bundle. */
export const initArguments: readonly string[] = [
  // No compiler: PID 1 never makes memory executable, whatever the host feeds its parsers with.
  "--jitless",
  // No `eval`, no `new Function`: text never becomes code.
  "--disallow-code-generation-from-strings",
  // Without `__proto__`, parsed JSON cannot reach a prototype.
  "--disable-proto=delete",
  "/usr/lib/caisson/init.mjs",
];
