// SPDX-License-Identifier: Apache-2.0

import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import type { Flavour } from "@caisson/vocabulary/flavours";
import { commandLine, commandLineTokens } from "./cmdline.ts";

const verity = { rootHash: "ab".repeat(32), dataBlocks: 1000 };

test("the root is verified, read-only, and its geometry is on the line", () => {
  match(
    commandLine("production", verity),
    / dm-mod\.create="root,,,ro,0 8000 verity 1 \/dev\/vda \/dev\/vda 4096 4096 1000 1000 sha256 (ab){32} [0-9a-f]{64} 1 panic_on_corruption" root=\/dev\/dm-0 rootfstype=erofs ro /,
  );
});

test("it fits into what the kernel takes, with the largest geometry", () => {
  ok(commandLine("development", { ...verity, dataBlocks: 2 ** 32 - 1 }).length <= 2047);
});

test("a line that the kernel would cut is refused", () => {
  throws(() => commandLine("production", { ...verity, rootHash: "ab".repeat(700) }), {
    code: "cmdline/length",
  });
});

test("the flavours differ in one token", () => {
  const tokens = (flavour: Flavour) => commandLineTokens(flavour).map(({ token }) => token);
  const development = tokens("development");
  const different = tokens("production").filter((token) => !development.includes(token));
  deepEqual(different, ["caisson.flavour=production"]);
});

test("where the kernel has IPv6, only loopback has an address of it", () => {
  for (const variant of ["plain", "services", "volumes"] as const) {
    const line = commandLineTokens("production", variant).map(({ token }) => token);
    equal(line.includes("ipv6.disable_ipv6=1"), variant !== "plain", variant);
    equal(line.includes("cgroup_v1_proc=1"), variant !== "plain", variant);
  }
});

test("no token is there twice, and each says why", () => {
  const tokens = commandLineTokens("production");
  equal(new Set(tokens.map(({ token }) => token)).size, tokens.length);
  ok(tokens.every(({ why }) => why.length > 0));
});

test("nothing weakens the kernel or reads from the host", () => {
  const forbidden =
    /nokaslr|nopti|nosme|nosma|nospectre|mitigations|clearcpuid|setcpuid|dis_ucode|earlyprintk|earlycon|debug|initrd/;
  equal(forbidden.exec(commandLine("development", verity)), null);
});
