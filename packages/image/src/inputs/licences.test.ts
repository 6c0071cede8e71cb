// SPDX-License-Identifier: Apache-2.0
import { deepEqual } from "node:assert/strict";
import { test } from "node:test";
import { licencesOf } from "./licences.ts";

const format = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n";

test("a machine-readable copyright file names its licences, each once", () => {
  const text = `${format}\nFiles: *\nCopyright: somebody\nLicense: GPL-2+\n\nFiles: a\nLicense: ISC\n text\n\nLicense: GPL-2+\n text\n`;
  deepEqual(licencesOf(text), ["GPL-2+", "ISC"]);
});

test("another one names the common licences that it refers to", () => {
  const text =
    "It is under `/usr/share/common-licenses/GPL-3'. See /usr/share/common-licenses/LGPL-2.1.\nLicense: none of these\n";
  deepEqual(licencesOf(text), ["GPL-3", "LGPL-2.1"]);
});

test("a file that says nothing names nothing, and one that says too much is cut", () => {
  deepEqual(licencesOf(""), []);
  const many = Array.from({ length: 999 }, (_, i) => `License: ${"x".repeat(500)}${i}`).join("\n");
  deepEqual(
    licencesOf(format + many).map((name) => name.length),
    [120],
  );
});
