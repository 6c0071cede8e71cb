// SPDX-License-Identifier: Apache-2.0
/** The recorded content of npm packages is that of the tarballs whose integrity the lockfile names: read again. */
import { deepEqual } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { tarballContents } from "../../packages/image/src/inputs/npm-tarball.ts";

test("npm-content.json follows from package-lock.json (otherwise: node packages/image/src/inputs/npm-tarball.ts)", async () => {
  const record = new URL("../../packages/image/src/inputs/npm-content.json", import.meta.url);
  deepEqual(JSON.parse(readFileSync(record, "utf8")), await tarballContents());
});
