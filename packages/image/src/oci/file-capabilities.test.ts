// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fileCapabilities } from "./file-capabilities.ts";

// What `setcap` wrote on this kernel, read back by getfattr.
const ofSetcap: [text: string, value: string, names: string[]][] = [
  ["cap_net_raw+ep", "0100000200200000000000000000000000000000", ["NET_RAW"]],
  [
    "cap_net_bind_service,cap_checkpoint_restore+p",
    "0000000200040000000000000001000000000000",
    ["NET_BIND_SERVICE", "CHECKPOINT_RESTORE"],
  ],
  ["cap_chown+ei: inheritable alone gives nothing", "0100000200000000010000000000000000000000", []],
  ["of a user's root", "0100000300200000000000000000000000000000a0860100", ["NET_RAW"]],
  ["revision 1", "010000010020000000000000", ["NET_RAW"]],
];

test("capabilities of files have the names that setcap was given", () => {
  for (const [text, value, names] of ofSetcap)
    deepEqual(fileCapabilities(Buffer.from(value, "hex")), names, text);
});

test("a truncated or longer value, another revision and random bytes give none, or names", () => {
  const whole = Buffer.from(ofSetcap[0]![1], "hex");
  for (let length = 0; length < whole.length; length++)
    deepEqual(fileCapabilities(whole.subarray(0, length)), []);
  deepEqual(fileCapabilities(Buffer.concat([whole, Buffer.alloc(1)])), []);
  deepEqual(fileCapabilities(Buffer.from(`01000004${ofSetcap[0]![1].slice(8)}`, "hex")), []);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 32 }), (bytes) => {
      const names = fileCapabilities(bytes);
      equal(new Set(names).size, names.length);
    }),
  );
});
