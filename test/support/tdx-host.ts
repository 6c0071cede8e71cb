// SPDX-License-Identifier: Apache-2.0
/** `node --import` this file: the host is what lies below CAISSON_TEST_HOST, as a host with TDX has it. */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { patchModule } from "./patched-module.ts";

/** What `up --platform tdx` looks at on a host, in a directory. */
export function makeTdxHost(root: string): void {
  const files = {
    "proc/cpuinfo": "model name\t: a processor with TDX\nflags\t\t: fpu tdx_host_platform\n",
    "sys/module/kvm_intel/parameters/tdx": "Y\n",
    "dev/kvm": "",
    "dev/vsock": "",
  };
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
}

const root = process.env["CAISSON_TEST_HOST"];
if (root !== undefined) {
  patchModule("/packages/host/src/tdx.ts", (source) =>
    source.replaceAll("join(root, ", `join(${JSON.stringify(root)}, `),
  );
}
