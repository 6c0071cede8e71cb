// SPDX-License-Identifier: Apache-2.0
import { deepEqual, throws } from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { readKernelConfig } from "./kernel-config.ts";

const text = '# a comment\nCONFIG_A=y\n\n# CONFIG_B is not set\nCONFIG_C="x y"\nCONFIG_D=n\n';
const config = new Map([
  ["A", "y"],
  ["C", '"x y"'],
]);

const forms: [what: string, bytes: Uint8Array][] = [
  ["plain", Buffer.from(text)],
  ["compressed, as /proc/config.gz", gzipSync(text)],
  ["with CRLF", Buffer.from(text.replaceAll("\n", "\r\n"))],
  ["compressed, with CRLF", gzipSync(text.replaceAll("\n", "\r\n"))],
];
for (const [what, bytes] of forms) {
  test(`a kernel configuration: ${what}`, () => deepEqual(readKernelConfig(bytes), config));
}

const refused: [what: string, bytes: Uint8Array][] = [
  ["another text", Buffer.from("hello\n")],
  ["nothing", Buffer.from("")],
  ["a compressed stream cut short", gzipSync(text).subarray(0, -9)],
  ["a compressed bomb", gzipSync(Buffer.alloc(17 << 20, "\n"))],
];
for (const [what, bytes] of refused) {
  test(`refused: ${what}`, () => throws(() => readKernelConfig(bytes), { code: "kernel/config" }));
}
