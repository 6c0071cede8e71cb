// SPDX-License-Identifier: Apache-2.0
import { deepEqual } from "node:assert/strict";
import { test } from "node:test";
import type { Control } from "./control.ts";
import { placeOf } from "./finding-place.ts";

const of = (group: Control["group"]) => ({ group }) as Control;
const manifest = {
  path: "out/x/manifest.json",
  text: '{\n  "name": "x",\n  "commandLine": "a",\n  "guest": {\n    "rootfs": 1\n  },\n  "rootfs": {}\n}\n',
};
const kernelConfig = {
  path: "kernel/resolved-production.config",
  text: "# Linux\nCONFIG_MODULES_X=y\n# CONFIG_B is not set\nCONFIG_MODULES=y\n",
};
const subject = { name: "out/x", hashes: [], manifest, kernelConfig };

test("a finding is at the line of the configuration, or of the manifest, that says it", () => {
  const rows: [group: Control["group"], detail: string, wanted: object][] = [
    ["kernel attack surface", "expected: CONFIG_MODULES is not set; found: y", { path: kernelConfig.path, line: 4 }],
    ["kernel attack surface", "expected: CONFIG_B=y; found: n", { path: kernelConfig.path, line: 3 }],
    ["kernel attack surface", "expected: CONFIG_ABSENT=y; found: n", { path: kernelConfig.path }],
    ["kernel attack surface", "expected: release 6.9 or newer; found: 5.1", { path: "out/x" }],
    ["command line", "expected: lockdown; found: nothing", { path: manifest.path, line: 3 }],
    ["container", "expected: a seccomp filter; found: none", { path: manifest.path, line: 4 }],
    ["file system", "expected: no set-id bits; found: /x", { path: manifest.path, line: 7 }],
  ]; // biome-ignore format: rows
  for (const [group, detail, wanted] of rows)
    deepEqual(placeOf(of(group), [detail], subject), wanted, detail);
});

test("of what has no such files it is the subject", () => {
  const guest = { name: "http://127.0.0.1:1", hashes: [] };
  for (const group of ["command line", "kernel attack surface"] as const) {
    deepEqual(placeOf(of(group), ["expected: CONFIG_A=y; found: n"], guest), { path: guest.name });
  }
});
