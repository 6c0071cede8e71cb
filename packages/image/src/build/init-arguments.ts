// SPDX-License-Identifier: Apache-2.0
/** What the kernel passes to PID 1 (Node) after `--`: flags of Node, then the bundle. */
export const initArguments: readonly string[] = [
  // No compiler: PID 1 never makes memory executable, whatever the host feeds its parsers with.
  "--jitless",
  // No `eval`, no `new Function`: text never becomes code.
  "--disallow-code-generation-from-strings",
  // Without `__proto__`, parsed JSON cannot reach a prototype.
  "--disable-proto=delete",
  // OpenSSL's own store, of which the image has none: PID 1 trusts no authority that its code does not name, and Node does
  // not read the 121 that it carries, which was a quarter of the time stage's instructions.
  "--use-openssl-ca",
  "/usr/lib/caisson/init.mjs",
];
