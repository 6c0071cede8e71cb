// SPDX-License-Identifier: Apache-2.0
import { equal } from "node:assert/strict";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { insideRoot } from "./place.ts";

test("a link of an image leads PID 1 nowhere outside of the image's root", (t) => {
  const place = realpathSync(mkdtempSync(join(tmpdir(), "caisson-root-")));
  t.after(() => rmSync(place, { recursive: true }));
  const root = join(place, "root");
  mkdirSync(join(root, "etc"), { recursive: true });
  mkdirSync(join(place, "root-of-another"));
  writeFileSync(join(place, "key"), "secret");
  writeFileSync(join(root, "etc/passwd"), "root:x:0:0::/:/bin/sh\n");
  symlinkSync("passwd", join(root, "etc/inside"));
  symlinkSync(join(place, "key"), join(root, "etc/absolute"));
  symlinkSync("../../key", join(root, "etc/relative"));
  symlinkSync("/", join(root, "whole"));
  symlinkSync("../root-of-another", join(root, "sibling"));
  symlinkSync("loop", join(root, "loop"));
  equal(insideRoot(root, "etc/passwd"), join(root, "etc/passwd"));
  equal(insideRoot(root, "/etc/inside"), join(root, "etc/passwd"));
  for (const path of [
    "etc/absolute",
    "etc/relative",
    "whole/etc/passwd",
    "sibling",
    "loop",
    "nothing",
    "../key",
  ]) {
    equal(insideRoot(root, path), undefined, path);
  }
});
