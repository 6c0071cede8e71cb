// SPDX-License-Identifier: Apache-2.0
/**
 * The catalogue's kernel symbols against the source that the lock names: a symbol that was renamed would be "not set"
 * for ever, and its line stay green (docs/decisions/0011-audit-by-counterexample.md).
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { catalogue } from "@caisson/audit";
import { source } from "../support/built.ts";

/** Symbols that newer kernels do not have any more: they are asked for so that an older one does not bring them. */
const gone = ["ACPI_CUSTOM_METHOD", "IP_DCCP"];

test("every kernel symbol that a control names exists in the locked source", () => {
  const script = `set -e -o pipefail
    dpkg-deb --fsys-tarfile "$1" | tar xO --wildcards './usr/src/linux-source-*.tar.xz' \
      | tar xJO --wildcards '*/Kconfig*'`;
  const kconfig = spawnSync("bash", ["-c", script, "bash", source.path], {
    encoding: "latin1",
    maxBuffer: 256 * 1024 * 1024,
    timeout: 240_000,
  });
  equal(kconfig.status, 0, kconfig.stderr);
  const known = new Set(
    [...kconfig.stdout.matchAll(/^\s*(?:menu)?config\s+(\w+)/gm)].map(([, symbol]) => symbol!),
  );
  // Ours: a patch of the development kernel adds it.
  known.add("CAISSON_TDX_EMULATION");

  const named = catalogue.flatMap(({ static: check }) =>
    typeof check === "string"
      ? []
      : check.map(({ expects }) => expects).filter((expects) => expects.startsWith("CONFIG_")),
  );
  const symbols = named.map(
    (expects) => /^CONFIG_(\w+)(?: is not set|=| names )/.exec(expects)?.[1] ?? expects,
  );
  ok(symbols.includes("MODULES"));
  deepEqual([...new Set(symbols.filter((symbol) => !known.has(symbol)))].sort(), gone);
});
