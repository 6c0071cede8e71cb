// SPDX-License-Identifier: Apache-2.0
import { deepEqual, match } from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { tdxPrerequisites } from "./tdx.ts";

const scratch = temporaryDirectory("test");

/** Files of a host that can start a TD, and what its QEMU says. */
const able: Record<string, string> = {
  "proc/cpuinfo": "model name\t: Some Xeon\nflags\t\t: fpu tdx_host_platform sgx\n",
  "sys/module/kvm_intel/parameters/tdx": "Y\n",
  "dev/kvm": "",
  "dev/vsock": "",
  qemu: "QEMU emulator version 10.1.0 (Debian)",
};

async function examine(changes: Record<string, string | undefined>) {
  const root = mkdtempSync(join(scratch, "host-"));
  for (const [path, content] of Object.entries({ ...able, ...changes })) {
    if (content === undefined) continue;
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), path === "qemu" ? `#!/bin/sh\necho '${content}'\n` : content);
  }
  const qemu = join(root, "qemu");
  if (changes.qemu !== undefined || !("qemu" in changes)) chmodSync(qemu, 0o755);
  return (await tdxPrerequisites(root, qemu)).filter(({ ok }) => !ok);
}

test("a host that has everything", async () => {
  deepEqual(await examine({}), []);
  deepEqual(await examine({ qemu: "QEMU emulator version 11.0.2" }), []);
});

const lacks: Record<string, { changes: Record<string, string | undefined>; name: string; found: RegExp }> = {
  "a processor without TDX": {
    changes: { "proc/cpuinfo": "model name\t: Some EPYC\nflags\t\t: fpu tdx_host_platform_not\n" },
    name: "processor",
    found: /^Some EPYC, without the flag/,
  },
  "no KVM": { changes: { "dev/kvm": undefined }, name: "kvm", found: /^there is no \/dev\/kvm$/ },
  "a KVM without TDX": {
    changes: { "sys/module/kvm_intel/parameters/tdx": undefined },
    name: "kvm_intel.tdx",
    found: /does not know TDX/,
  },
  "TDX not switched on in KVM": {
    changes: { "sys/module/kvm_intel/parameters/tdx": "N" },
    name: "kvm_intel.tdx",
    found: /tdx=N/,
  },
  "an older QEMU": {
    changes: { qemu: "QEMU emulator version 10.0.9" },
    name: "qemu",
    found: /^version 10\.0$/,
  },
  "no QEMU": { changes: { qemu: undefined }, name: "qemu", found: /does not run$/ },
  "no vsock": { changes: { "dev/vsock": undefined }, name: "vsock", found: /no \/dev\/vsock$/ },
};
for (const [what, { changes, name, found }] of Object.entries(lacks)) {
  test(`missing, and nothing else is said to be: ${what}`, async () => {
    const missing = await examine(changes);
    deepEqual(
      missing.map((prerequisite) => prerequisite.name),
      [name],
    );
    match(missing[0]!.found, found);
    match(missing[0]!.fix, /\w/);
  });
}
