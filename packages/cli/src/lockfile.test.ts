// SPDX-License-Identifier: Apache-2.0
/** What npm installs from package-lock.json on any machine, whichever npm it has. */
import { deepEqual, ok } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

interface Entry {
  optional?: boolean;
  os?: string[];
  cpu?: string[];
  libc?: string[];
}

const file = new URL("../../../package-lock.json", import.meta.url);
const { packages } = JSON.parse(readFileSync(file, "utf8")) as { packages: Record<string, Entry> };

test("no binary for this platform is optional: npm leaves those out whose engines the machine's Node does not meet", () => {
  const fits = ([, { os, cpu, libc }]: [string, Entry]) =>
    os?.includes("linux") === true && cpu?.includes("x64") === true && libc?.includes("musl") !== true;
  const binaries = Object.entries(packages).filter(fits);
  ok(binaries.length > 4, "no binaries");
  deepEqual(
    binaries.filter(([, { optional }]) => optional === true).map(([path]) => path),
    [],
  );
});
